"""Runs commands one after the other, and says what each of them and its children used.

A process of its own, as small as an interpreter can be: what a command is measured to have used at its peak cannot be
less than what its parent had in use when it was forked. Orders come on standard input and answers go to standard
output, both marshalled: `(argv, environment, timeout)` and `(status, cpu_s, wall_s, peak_kib, output)`; a status of
None means that the command did not end in time, and was killed.
"""

import _signal
import marshal
import posix
import sys
import time


def read_exactly(handle, size):
    data = b""
    while len(data) < size:
        more = posix.read(handle, size - len(data))
        if not more:
            posix._exit(0)
        data += more
    return data


def run(argv, environment, timeout):
    """One command, with the folder / and nothing to read; what it prints goes to a file without a name."""
    printed = posix.memfd_create("printed")
    began = time.perf_counter()
    child = posix.fork()
    if child == 0:
        try:
            posix.setsid()
            posix.chdir("/")
            posix.dup2(posix.open("/dev/null", posix.O_RDONLY), 0)
            posix.dup2(printed, 1)
            posix.dup2(printed, 2)
            posix.execve(argv[0], argv, environment)
        finally:
            posix._exit(127)
    late = []

    def end(*_):
        late.append(True)
        posix.kill(-child, _signal.SIGKILL)

    _signal.signal(_signal.SIGALRM, end)
    _signal.setitimer(_signal.ITIMER_REAL, timeout)
    _, status, used = posix.wait4(child, 0)
    wall = time.perf_counter() - began
    _signal.setitimer(_signal.ITIMER_REAL, 0)
    output = posix.pread(printed, 100_000, 0)
    posix.close(printed)
    code = None if late else posix.waitstatus_to_exitcode(status)
    return code, used.ru_utime + used.ru_stime, wall, used.ru_maxrss, output


while True:
    order = marshal.loads(read_exactly(0, int.from_bytes(read_exactly(0, 4), "little")))
    answer = marshal.dumps(run(*order))
    sys.stdout.buffer.write(len(answer).to_bytes(4, "little") + answer)
    sys.stdout.buffer.flush()
