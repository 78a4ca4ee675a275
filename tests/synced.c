/* Preloaded into the target: a line for each write to a file under a folder ("w" and its name), for
 * each fsync of one ("s" and its name), for a write to stdout ("o"), and for what is sent on a
 * socket ("n").
 *
 * EVENTS_UNDER  the folder
 * EVENTS_LOG    the file of the lines
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static void note(const char *event, const char *name)
{
    const char *log = getenv("EVENTS_LOG");
    char line[PATH_MAX + 8];
    if (!log)
        return;
    int length = snprintf(line, sizeof line, "%s %s\n", event, name);
    int fd = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_APPEND | O_CREAT, 0600);
    syscall(SYS_write, fd, line, length);
    syscall(SYS_close, fd);
}

static void note_file(const char *event, int fd)
{
    const char *folder = getenv("EVENTS_UNDER");
    char link[64], path[PATH_MAX];
    if (!folder)
        return;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0 || strncmp(path, folder, strlen(folder)))
        return;
    path[length] = 0;
    if (!strstr(path, "-journal")) /* SQLite's own: it holds what was, and is written early */
        note(event, strrchr(path, '/') + 1);
}

ssize_t write(int fd, const void *data, size_t size)
{
    if (fd == 1)
        note("o", "");
    else
        note_file("w", fd);
    return syscall(SYS_write, fd, data, size);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t where)
{
    note_file("w", fd);
    return syscall(SYS_pwrite64, fd, data, size, where);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t where)
{
    return pwrite64(fd, data, size, where);
}

int fsync(int fd)
{
    note_file("s", fd);
    return syscall(SYS_fsync, fd);
}

int fdatasync(int fd)
{
    note_file("s", fd);
    return syscall(SYS_fdatasync, fd);
}

ssize_t send(int fd, const void *data, size_t size, int flags)
{
    note("n", "");
    return syscall(SYS_sendto, fd, data, size, flags, NULL, 0);
}
