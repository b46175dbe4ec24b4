"""`make sbom`: what the SPDX specification, version 2.3, requires of a JSON document (clauses 6, 7 and 11), that it names
all that is linked, and that a document with a fault is caught."""
import copy
import hashlib
import json
import pathlib
import re
import subprocess

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
BINARY = TOP / "out" / "sim" / "slipway"

ID = re.compile(r"SPDXRef-[A-Za-z0-9.-]+")
CREATOR = re.compile(r"(Tool: .+|Organization: .+|Person: .+)")
LOCATION = re.compile(r"NOASSERTION|NONE|(https?|git|git\+https|ftp)://\S+")
LICENSES = {"Apache-2.0", "GPL-2.0-or-later", "GPL-2.0-only", "GPL-3.0-or-later", "GCC-exception-3.1", "curl", "MIT",
            "BSD-2-Clause", "BSD-3-Clause", "Zlib", "NOASSERTION"}  # of the SPDX list, those used here
HEX = {"SHA1": 40, "SHA256": 64, "SHA512": 128}
RELATIONSHIPS = {"DESCRIBES", "STATIC_LINK", "DYNAMIC_LINK", "CONTAINS", "DEPENDS_ON", "BUILD_TOOL_OF"}


def faults(d):
    """Everything that the specification wants otherwise."""
    found = []

    def want(good, what):
        if not good:
            found.append(what)

    want(d.get("spdxVersion") == "SPDX-2.3", "6.1 version")
    want(d.get("dataLicense") == "CC0-1.0", "6.2 data license")
    want(d.get("SPDXID") == "SPDXRef-DOCUMENT", "6.3 identifier")
    want(d.get("name"), "6.4 name")
    want(re.fullmatch(r"https?://[^\s#]+", d.get("documentNamespace", "")), "6.5 namespace: a URI without #")
    info = d.get("creationInfo", {})
    want(info.get("creators") and all(CREATOR.fullmatch(c) for c in info["creators"]), "6.8 creators")
    want(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", info.get("created", "")), "6.9 created")
    ids = [d.get("SPDXID")] + [p.get("SPDXID") for p in d.get("packages", [])]
    want(len(ids) == len(set(ids)), "identifiers are unique")
    for p in d.get("packages", []):
        name = p.get("name")
        want(name, "7.1 name")
        want(ID.fullmatch(p.get("SPDXID", "")), f"7.2 {name}: identifier")
        want(LOCATION.fullmatch(p.get("downloadLocation", "")), f"7.7 {name}: download location")
        want(p.get("filesAnalyzed") is False or "packageVerificationCode" in p, f"7.9 {name}: verification code")
        for c in p.get("checksums", []):
            want(re.fullmatch(r"[0-9a-f]*", c["checksumValue"]) and
                 len(c["checksumValue"]) == HEX.get(c["algorithm"]), f"7.10 {name}: checksum")
        for field in ("licenseConcluded", "licenseDeclared"):
            words = set(re.split(r" (?:OR|AND|WITH) ", p.get(field, "NOASSERTION")))
            want(words <= LICENSES, f"7.13, 7.15 {name}: license")
        for r in p.get("externalRefs", []):
            want(r.get("referenceCategory") == "PACKAGE-MANAGER" and r.get("referenceType") == "purl" and
                 re.fullmatch(r"pkg:[a-z]+/\S+@\S+", r.get("referenceLocator", "")), f"7.21 {name}: external reference")
    for r in d.get("relationships", []):
        want(r.get("spdxElementId") in ids and r.get("relatedSpdxElement") in ids, "11.1 related elements")
        want(r.get("relationshipType") in RELATIONSHIPS, "11.1 relationship")
    want(any(r.get("relationshipType") == "DESCRIBES" and r.get("spdxElementId") == "SPDXRef-DOCUMENT"
             for r in d.get("relationships", [])), "11.1 nothing is described")
    return found


@pytest.fixture(name="document", scope="module")
def fixture_document():
    subprocess.run(["make", "-s", "BOARD=sim", "sbom"], check=True, cwd=TOP, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return json.loads(BINARY.with_suffix(".spdx.json").read_text())


def test_is_what_spdx_requires(document):
    assert not faults(document)


def test_names_all_that_is_linked(document):
    lock = {line.split()[0]: line.split()[1:] for line in (TOP / "toolchain/deps.lock").read_text().splitlines()
            if not line.startswith("#")}
    packages = {p["name"]: p for p in document["packages"]}
    assert packages.keys() == lock.keys() | {"slipway", "libgcc"}
    for name, (version, _, sha256) in lock.items():
        assert packages[name]["versionInfo"] == version and packages[name]["checksums"][0]["checksumValue"] == sha256
    assert packages["slipway"]["checksums"][0]["checksumValue"] == hashlib.sha256(BINARY.read_bytes()).hexdigest()
    linked = {r["relatedSpdxElement"] for r in document["relationships"] if r["relationshipType"] == "STATIC_LINK"}
    assert linked == {p["SPDXID"] for p in packages.values()} - {"SPDXRef-slipway"}


@pytest.mark.parametrize("spoil", [
    lambda d: d.pop("dataLicense"),
    lambda d: d.update(documentNamespace="slipway#1"),
    lambda d: d["creationInfo"].update(created="yesterday"),
    lambda d: d["creationInfo"].update(creators=["somebody"]),
    lambda d: d["packages"][1].pop("downloadLocation"),
    lambda d: d["packages"][1].update(SPDXID="SPDXRef-a_b"),
    lambda d: d["packages"][1].update(SPDXID=d["packages"][2]["SPDXID"]),
    lambda d: d["packages"][1].update(filesAnalyzed=True),
    lambda d: d["packages"][1].update(licenseDeclared="whatever"),
    lambda d: d["packages"][1]["checksums"][0].update(algorithm="SHA512"),
    lambda d: d["relationships"][1].update(relatedSpdxElement="SPDXRef-nothing"),
    lambda d: d["relationships"].pop(0),
])
def test_a_fault_is_caught(document, spoil):
    bad = copy.deepcopy(document)
    spoil(bad)
    assert faults(bad)
