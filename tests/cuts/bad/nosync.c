/* Linked into a known-bad agent, with --wrap: one that forgets its fsyncs. tests/cuts/replay.py must find it out. */
int __wrap_fsync(int fd);
int __wrap_fdatasync(int fd);

int __wrap_fsync(int fd)
{
    (void)fd;
    return 0;
}

int __wrap_fdatasync(int fd)
{
    (void)fd;
    return 0;
}
