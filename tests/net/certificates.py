"""Certificates for servers on 127.0.0.1, made by openssl: good ones, and the ways in which one can be bad."""
import subprocess
import time

KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc"]
CA_EXTENSIONS = ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign"]
SIGNER = """[ca]
default_ca=d
[d]
database=index.txt
new_certs_dir=.
rand_serial=yes
default_md=sha256
policy=p
copy_extensions=copy
[p]
commonName=supplied
"""


def make_certificates(folder):
    """An authority, ca.crt; and NAME.crt with NAME.key: good; expired; later, which begins in ten days; other, which is for another name; and foreign,
    which another authority signed."""
    def openssl(*command):
        subprocess.run(["openssl", *command], cwd=folder, check=True, capture_output=True)

    for ca in ("ca", "stranger"):
        openssl("req", "-x509", *KEY, "-keyout", f"{ca}.key", "-out", f"{ca}.crt", "-days", "30",
                "-subj", f"/CN=Test {ca}", *CA_EXTENSIONS)
    (folder / "index.txt").write_text("")
    (folder / "ca.conf").write_text(SIGNER)
    here, now = "IP:127.0.0.1", ["-days", "30"]
    past = ["-startdate", "20200101000000Z", "-enddate", "20200201000000Z"]
    later = ["-startdate", time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + 10 * 86400)), "-days", "20"]
    for name, subject, times, ca in (("good", here, now, "ca"), ("other", "DNS:elsewhere.example.com", now, "ca"),
                                     ("expired", here, past, "ca"), ("later", here, later, "ca"), ("foreign", here, now, "stranger")):
        openssl("req", *KEY, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}",
                "-addext", f"subjectAltName={subject}")
        openssl("ca", "-batch", "-config", "ca.conf", "-cert", f"{ca}.crt", "-keyfile", f"{ca}.key", "-in",
                f"{name}.csr", "-out", f"{name}.crt", "-notext", *times)
