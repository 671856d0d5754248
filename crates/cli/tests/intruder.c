/* Acts as an attacker who has taken a server over. Loaded into it, every thread tries at
 * SIGUSR1 what a confined one must not be able to do, and writes a line with the errors
 * that it met, 0 for success, to the file INTRUDER_OUT. Plain system calls only: this
 * runs in signal handlers. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static int out = -1;
static char fresh[4096];

static int met(long result) { return result < 0 ? errno : 0; }

static int opens(const char *path, int flags) {
    int fd = syscall(SYS_openat, AT_FDCWD, path, flags, 0600);
    int error = met(fd);
    if (fd >= 0) close(fd);
    return error;
}

static void intrude(int signal) {
    int before = errno;
    int open = opens("/etc/passwd", O_RDONLY);
    int create = opens(fresh, O_CREAT | O_WRONLY);
    int other = opens("/proc/1/environ", O_RDONLY);
    int own = opens("/proc/self/status", O_RDONLY);
    /* The program does not exist: the error tells whether the filter refused the call. */
    int run = met(syscall(SYS_execve, "/nothing/there", NULL, NULL));
    long child = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (child == 0) syscall(SYS_exit_group, 0);
    int process = met(child);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    int connection = met(fd);
    if (fd >= 0) close(fd);
    void *code = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int map = code == MAP_FAILED ? errno : 0;
    if (code != MAP_FAILED) munmap(code, 4096);
    char line[256];
    int len = snprintf(line, sizeof line,
                       "%ld open=%d create=%d other=%d own=%d run=%d process=%d socket=%d code=%d\n",
                       syscall(SYS_gettid), open, create, other, own, run, process, connection, map);
    if (write(out, line, len) < 0) abort();
    errno = before;
    (void)signal;
}

/* A folder's entry, as `getdents64(2)` writes it. */
struct entry {
    unsigned long long inode;
    long long next;
    unsigned short len;
    unsigned char kind;
    char name[];
};

static void tell_all(int signal) {
    int before = errno;
    static char entries[1 << 16];
    int dir = open("/proc/self/task", O_RDONLY | O_DIRECTORY);
    long got = syscall(SYS_getdents64, dir, entries, sizeof entries);
    for (long at = 0; at < got;) {
        struct entry *entry = (struct entry *)(entries + at);
        int tid = atoi(entry->name);
        if (tid > 0) syscall(SYS_tgkill, getpid(), tid, SIGUSR2);
        at += entry->len;
    }
    close(dir);
    errno = before;
    (void)signal;
}

__attribute__((constructor)) static void arrive(void) {
    const char *path = getenv("INTRUDER_OUT");
    if (path == NULL) return;
    snprintf(fresh, sizeof fresh, "%s.new", path);
    out = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    struct sigaction act = {.sa_flags = SA_RESTART};
    act.sa_handler = tell_all;
    sigaction(SIGUSR1, &act, NULL);
    act.sa_handler = intrude;
    sigaction(SIGUSR2, &act, NULL);
}
