/* Preloaded into the target: counts what changes files under a folder, and breaks the n-th change.
 *
 * WRITES_UNDER  the folder
 * WRITES_LOG    a file that gets one byte for each change
 * WRITES_AT     number of the change that breaks, from 1
 * WRITES_HOW    "kill": the process is killed before it; "torn": half of it is written, then it is
 *               killed; "full": it and every later write finds no space
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

enum verdict { GO_ON, TORN, FULL };
static long changes;

static int is_under(int fd)
{
    const char *folder = getenv("WRITES_UNDER");
    char link[64], path[PATH_MAX];
    if (!folder)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    return length > 0 && !strncmp(path, folder, strlen(folder));
}

static void die(void)
{
    for (;;) {
        kill(getpid(), SIGKILL);
        pause();
    }
}

static enum verdict judge(int writes)
{
    long number = __atomic_add_fetch(&changes, 1, __ATOMIC_SEQ_CST);
    const char *log = getenv("WRITES_LOG"), *at = getenv("WRITES_AT"), *how = getenv("WRITES_HOW");
    if (log) {
        int fd = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_APPEND | O_CREAT, 0600);
        syscall(SYS_write, fd, ".", 1);
        syscall(SYS_close, fd);
    }
    if (!at || !how || number < atol(at))
        return GO_ON;
    if (!strcmp(how, "full"))
        return writes ? FULL : GO_ON;
    if (!strcmp(how, "torn") && writes)
        return TORN;
    die();
    return GO_ON;
}

ssize_t write(int fd, const void *data, size_t size)
{
    enum verdict verdict = is_under(fd) ? judge(1) : GO_ON;
    if (verdict == FULL) {
        errno = ENOSPC;
        return -1;
    }
    if (verdict == TORN) {
        syscall(SYS_write, fd, data, size / 2);
        die();
    }
    return syscall(SYS_write, fd, data, size);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t where)
{
    enum verdict verdict = is_under(fd) ? judge(1) : GO_ON;
    if (verdict == FULL) {
        errno = ENOSPC;
        return -1;
    }
    if (verdict == TORN) {
        syscall(SYS_pwrite64, fd, data, size / 2, where);
        die();
    }
    return syscall(SYS_pwrite64, fd, data, size, where);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t where)
{
    return pwrite64(fd, data, size, where);
}

int fsync(int fd)
{
    if (is_under(fd))
        judge(0);
    return syscall(SYS_fsync, fd);
}

int fdatasync(int fd)
{
    if (is_under(fd))
        judge(0);
    return syscall(SYS_fdatasync, fd);
}

int ftruncate64(int fd, off64_t size)
{
    if (is_under(fd))
        judge(0);
    return syscall(SYS_ftruncate, fd, size);
}

int ftruncate(int fd, off_t size)
{
    return ftruncate64(fd, size);
}

int unlink(const char *path)
{
    const char *folder = getenv("WRITES_UNDER");
    if (folder && !strncmp(path, folder, strlen(folder)))
        judge(0);
    return syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}
