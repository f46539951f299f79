/* os.h - what the tests take from the system without the library, by one name everywhere: threads,
 * sockets, the environment. */
#ifndef EVLOOP_TESTS_OS_H
#define EVLOOP_TESTS_OS_H

#include "test.h"

#include <errno.h>
#include <fcntl.h>
#if defined(_WIN32)
#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif
#include <winsock2.h>
#include <ws2tcpip.h>
#include <windows.h>
#include <direct.h>
#include <io.h>
#include <process.h>
#else
#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#endif

#define OS_NO_SOCK ((evl_os_sock_t)-1)

#if !defined(_WIN32)

/* ---- POSIX ----------------------------------------------------------------------------------- */

#define OS_LAST_BACKEND    "poll"  /* always there, and has no descriptor */
#define OS_PROFILER_SIGNAL SIGPROF /* that EVL_LOOP_BLOCK_SIGNAL takes; 0: none */
#define OS_REUSES_ADDRESS  1       /* SO_REUSEADDR is set: elsewhere it lets others steal a port */
#define OS_STORM(steps)    (steps) /* that are a matter of a second or two */

/* What a loop takes that is not told which. */
#if defined(__linux__)
#define OS_FIRST_BACKEND "epoll"
#elif defined(__APPLE__) || defined(__FreeBSD__) || defined(__OpenBSD__) || defined(__NetBSD__) || \
    defined(__DragonFly__)
#define OS_FIRST_BACKEND "kqueue"
#else
#define OS_FIRST_BACKEND "poll"
#endif

#if defined(__linux__)
#define OS_SLEEPS_IN_MS 0
#define OS_BACKLOG      200 /* connections that wait for accept when all is as installed */
#define OS_LEAST_BUFFER 1   /* is rounded up to what works */
#define OS_LOOPBACK     "lo"
#else
#define OS_SLEEPS_IN_MS (strcmp(os_calls()->backend, "poll") == 0) /* without ppoll */
#define OS_BACKLOG      100
#define OS_LEAST_BUFFER 4096
#define OS_LOOPBACK     "lo0"
#endif

/* What getsockname tells the length of a name to be of which there was room for a part. */
#if defined(__linux__) || defined(__APPLE__)
#define OS_CUT_LENGTH(room, whole) (whole)
#else
#define OS_CUT_LENGTH(room, whole) (room)
#endif

/* Older macOS has none: there a test's own write to a peer that is gone would end it. */
#if defined(MSG_NOSIGNAL)
#define OS_NOSIGNAL MSG_NOSIGNAL
#else
#define OS_NOSIGNAL 0
#endif

/* The library's code for an error: that of the system, or a number of its own. */
#define OS_CODE(error, number) (-(error))

#define OS_BAD_SOCK    EVL_EBADF /* what a number that is no descriptor's gets */
#define OS_NO_WAITING  EVL_EPERM /* what a file that cannot be waited for gets */
#define OS_TELLS_CLOSE 0         /* who waits for a descriptor learns that somebody has closed it */
#define OS_PAIR_DGRAM  SOCK_DGRAM /* what evl_socketpair makes beside SOCK_STREAM */

typedef pthread_t os_thread_t;

/* stack: its size in bytes; 0: the system's choice. */
static inline void os_thread_start(os_thread_t *thread, size_t stack, void *(*run)(void *),
                                   void *arg) {
    pthread_attr_t attributes;
    CHECK_EQ(pthread_attr_init(&attributes), 0);
    if (stack != 0)
        CHECK_EQ(pthread_attr_setstacksize(&attributes, stack), 0);
    CHECK_EQ(pthread_create(thread, &attributes, run, arg), 0);
    CHECK_EQ(pthread_attr_destroy(&attributes), 0);
}

static inline void os_thread_join(os_thread_t thread) {
    CHECK_EQ(pthread_join(thread, NULL), 0);
}

static inline void os_yield(void) {
    sched_yield();
}

static inline os_thread_t os_self(void) {
    return pthread_self();
}

/* How often this process has been interrupted. */
static inline volatile int *os_interrupts(void) {
    static volatile int count;
    return &count;
}

static inline void os_on_interrupt(int signum) {
    (void)signum;
    *os_interrupts() = *os_interrupts() + 1;
}

/* Has interrupts counted, which would end the process. */
static inline void os_take_interrupts(void) {
    struct sigaction action;
    memset(&action, 0, sizeof(action));
    action.sa_handler = os_on_interrupt;
    CHECK_EQ(sigaction(SIGUSR2, &action, NULL), 0);
}

/* Interrupts what a thread sleeps in, if that can be. */
static inline void os_interrupt(os_thread_t thread) {
    CHECK_EQ(pthread_kill(thread, SIGUSR2), 0);
}

/* macOS has no semaphores without a name. */
typedef struct {
    pthread_mutex_t mutex;
    pthread_cond_t raised;
    unsigned count;
} os_sem_t;

static inline void os_sem_init(os_sem_t *sem) {
    CHECK_EQ(pthread_mutex_init(&sem->mutex, NULL), 0);
    CHECK_EQ(pthread_cond_init(&sem->raised, NULL), 0);
    sem->count = 0;
}

static inline void os_sem_destroy(os_sem_t *sem) {
    CHECK_EQ(pthread_cond_destroy(&sem->raised), 0);
    CHECK_EQ(pthread_mutex_destroy(&sem->mutex), 0);
}

static inline void os_sem_post(os_sem_t *sem) {
    CHECK_EQ(pthread_mutex_lock(&sem->mutex), 0);
    sem->count++;
    CHECK_EQ(pthread_cond_signal(&sem->raised), 0);
    CHECK_EQ(pthread_mutex_unlock(&sem->mutex), 0);
}

static inline void os_sem_wait(os_sem_t *sem) {
    CHECK_EQ(pthread_mutex_lock(&sem->mutex), 0);
    while (sem->count == 0)
        CHECK_EQ(pthread_cond_wait(&sem->raised, &sem->mutex), 0);
    sem->count--;
    CHECK_EQ(pthread_mutex_unlock(&sem->mutex), 0);
}

/* What this process has taken of the processors so far. */
static inline uint64_t os_cpu_ms(void) {
    struct timespec used;
    CHECK_EQ(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used), 0);
    return (uint64_t)used.tv_sec * 1000 + (uint64_t)used.tv_nsec / 1000000;
}

static inline void os_setenv(const char *name, const char *value) {
    CHECK_EQ(value != NULL ? setenv(name, value, 1) : unsetenv(name), 0);
}

static inline evl_os_sock_t os_socket(int domain, int type) {
    evl_os_sock_t sock = socket(domain, type, 0);
    CHECK(sock != OS_NO_SOCK);
    return sock;
}

static inline int os_close(evl_os_sock_t sock) {
    return close(sock);
}

/* Ends what is sent. */
static inline int os_shutdown(evl_os_sock_t sock) {
    return shutdown(sock, SHUT_WR);
}

static inline void os_nonblock(evl_os_sock_t sock) {
    int flags = fcntl(sock, F_GETFL);
    CHECK_EQ(fcntl(sock, F_SETFL, flags | O_NONBLOCK), 0);
}

/* That programs the test might start do not get it, and whether it blocks. */
static inline void os_check_flags(evl_os_sock_t sock, int nonblocking) {
    CHECK_EQ((fcntl(sock, F_GETFL) & O_NONBLOCK) != 0, nonblocking);
    CHECK_EQ(fcntl(sock, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
}

static inline void os_check_file_flags(evl_file file, int nonblocking) {
    os_check_flags(file, nonblocking);
}

static inline int os_file_close(evl_file file) {
    return close(file);
}

static inline long os_file_write(evl_file file, const void *bytes, size_t count) {
    return (long)write(file, bytes, count);
}

static inline long os_file_read(evl_file file, void *bytes, size_t count) {
    return (long)read(file, bytes, count);
}

/* The ends of a pipe, to read and to write, that block. */
static inline void os_pipe(evl_file ends[2]) {
    CHECK_EQ(pipe(ends), 0);
}

static inline void os_chdir(const char *path) {
    CHECK_EQ(chdir(path), 0);
}

/* How many bytes went through; -1: none. */
static inline long os_send(evl_os_sock_t sock, const void *bytes, size_t count) {
    return (long)send(sock, bytes, count, OS_NOSIGNAL);
}

static inline long os_recv(evl_os_sock_t sock, void *bytes, size_t count) {
    return (long)recv(sock, bytes, count, 0);
}

/* The same without waiting, for sockets that block. */
static inline long os_send_now(evl_os_sock_t sock, const void *bytes, size_t count) {
    return (long)send(sock, bytes, count, OS_NOSIGNAL | MSG_DONTWAIT);
}

static inline long os_recv_now(evl_os_sock_t sock, void *bytes, size_t count) {
    return (long)recv(sock, bytes, count, MSG_DONTWAIT);
}

/* That SIGPIPE is at its default. */
static inline void os_check_sigpipe(void) {
    struct sigaction action;
    CHECK_EQ(sigaction(SIGPIPE, NULL, &action), 0);
    CHECK(action.sa_handler == SIG_DFL);
}

static inline int os_is_open(evl_os_sock_t sock) {
    return fcntl(sock, F_GETFD) != -1;
}

/* Another descriptor of the same socket. */
static inline evl_os_sock_t os_dup(evl_os_sock_t sock) {
    evl_os_sock_t twin = dup(sock);
    CHECK(twin != OS_NO_SOCK);
    return twin;
}

/* The same with the given number, which is closed if it is open. */
static inline void os_dup_at(evl_os_sock_t sock, evl_os_sock_t number) {
    CHECK_EQ(dup2(sock, number), number);
}

/* How many open descriptors a program would get that this one starts. */
static inline int os_inheritable(void) {
    int count = 0;
    for (int fd = 3; fd < 1024; fd++) {
        int flags = fcntl(fd, F_GETFD);
        count += flags != -1 && (flags & FD_CLOEXEC) == 0;
    }
    return count;
}

/* A file and a directory, open, neither of which can be waited for. */
static inline evl_file os_some_file(void) {
    FILE *file = tmpfile();
    CHECK(file != NULL);
    evl_file fd = dup(fileno(file));
    fclose(file);
    return fd;
}

static inline evl_file os_some_directory(void) {
    return open("/", O_RDONLY);
}

static inline unsigned os_scope_id(const char *scope) {
    return if_nametoindex(scope);
}

static inline int os_inet_pton(int family, const char *text, void *addr) {
    return inet_pton(family, text, addr);
}

static inline void os_check_nonblock(evl_os_sock_t sock, int nonblocking) {
    CHECK_EQ((fcntl(sock, F_GETFL) & O_NONBLOCK) != 0, nonblocking);
}

/* What makes a poll handle of a socket. */
static inline int os_poll_init(evl_loop_t *loop, evl_poll_t *poll, evl_os_sock_t sock) {
    return evl_poll_init(loop, poll, sock);
}

/* Whether the last of these calls failed only for now. */
static inline int os_again(void) {
    return errno == EAGAIN || errno == EINTR;
}

static inline int os_setsockopt(evl_os_sock_t sock, int level, int name, const void *value,
                                size_t size) {
    return setsockopt(sock, level, name, value, (socklen_t)size);
}

static inline int os_getsockopt(evl_os_sock_t sock, int level, int name, void *value, size_t size) {
    socklen_t length = (socklen_t)size;
    return getsockopt(sock, level, name, value, &length);
}

static inline int os_domain(evl_os_sock_t sock) {
    struct sockaddr_storage name;
    socklen_t length = sizeof(name);
    memset(&name, 0, sizeof(name));
    CHECK_EQ(getsockname(sock, (struct sockaddr *)&name, &length), 0);
    return name.ss_family;
}

#if defined(TCP_KEEPIDLE)
#define OS_TCP_KEEPIDLE TCP_KEEPIDLE
#elif defined(TCP_KEEPALIVE)
#define OS_TCP_KEEPIDLE TCP_KEEPALIVE /* macOS's name for it */
#endif

#if defined(OS_TCP_KEEPIDLE)

static inline void os_check_keepalive(evl_os_sock_t sock, int idle, int intvl, int cnt) {
    int value = 0;
    CHECK_EQ(os_getsockopt(sock, IPPROTO_TCP, OS_TCP_KEEPIDLE, &value, sizeof(value)), 0);
    CHECK_EQ(value, idle);
    CHECK_EQ(os_getsockopt(sock, IPPROTO_TCP, TCP_KEEPINTVL, &value, sizeof(value)), 0);
    CHECK_EQ(value, intvl);
    CHECK_EQ(os_getsockopt(sock, IPPROTO_TCP, TCP_KEEPCNT, &value, sizeof(value)), 0);
    CHECK_EQ(value, cnt);
}

#else

/* OpenBSD has one set of times for all sockets. */
static inline void os_check_keepalive(evl_os_sock_t sock, int idle, int intvl, int cnt) {
    (void)sock;
    (void)idle;
    (void)intvl;
    (void)cnt;
}

#endif

/* A file as a socket, which it is not. */
static inline evl_os_sock_t os_file_handle(evl_file file) {
    return file;
}

/* Whether the connect that has just failed goes on. */
static inline int os_in_progress(void) {
    return errno == EINPROGRESS;
}

/* Which of these events there are; waits `ms` at most, -1: without end. */
static inline int os_poll(evl_os_sock_t sock, short events, int ms) {
    struct pollfd item;
    item.fd = sock;
    item.events = events;
    item.revents = 0;
    while (poll(&item, 1, ms) < 0)
        CHECK_EQ(errno, EINTR);
    return item.revents;
}

/* Whether poll tells of the peer's end, read or not; 0 also where it never does. */
#if defined(POLLRDHUP)
static inline int os_poll_end(evl_os_sock_t sock) {
    return (os_poll(sock, POLLRDHUP, 0) & POLLRDHUP) != 0;
}
#else
static inline int os_poll_end(evl_os_sock_t sock) {
    (void)sock;
    return 0;
}
#endif

#else

/* ---- Windows --------------------------------------------------------------------------------- */

#define OS_SLEEPS_IN_MS    1 /* before Windows 10, and under wine */
#define OS_FIRST_BACKEND   "iocp"
#define OS_LAST_BACKEND    "iocp"
#define OS_PROFILER_SIGNAL 0
#define OS_REUSES_ADDRESS  0
#define OS_BACKLOG         200
#define OS_STORM(steps)    ((steps) / 4) /* wine asks a server at each call */

#define OS_CODE(error, number)     (number)
#define OS_CUT_LENGTH(room, whole) (whole)

#define OS_BAD_SOCK                EVL_ENOTSOCK
#define OS_NO_WAITING              EVL_ENOTSOCK
#define OS_TELLS_CLOSE             1
#define OS_NO_SUCH_NUMBER          "the system does not give out the number of a closed socket"
#define OS_LOOPBACK                "1"
#define OS_CUT_LENGTH(room, whole) (whole)
#define OS_PAIR_DGRAM              SOCK_STREAM

typedef HANDLE os_thread_t;

typedef struct {
    void *(*run)(void *);
    void *arg;
} os_thread_call_t;

static inline unsigned __stdcall os_thread_main(void *arg) {
    os_thread_call_t call = *(os_thread_call_t *)arg;
    free(arg);
    call.run(call.arg);
    return 0;
}

static inline void os_thread_start(os_thread_t *thread, size_t stack, void *(*run)(void *),
                                   void *arg) {
    os_thread_call_t *call = (os_thread_call_t *)malloc(sizeof(*call));
    CHECK(call != NULL);
    call->run = run;
    call->arg = arg;
    *thread = (HANDLE)_beginthreadex(NULL, (unsigned)stack, os_thread_main, call,
                                     STACK_SIZE_PARAM_IS_A_RESERVATION, NULL);
    CHECK(*thread != NULL);
}

static inline void os_thread_join(os_thread_t thread) {
    CHECK_EQ(WaitForSingleObject(thread, INFINITE), WAIT_OBJECT_0);
    CHECK(CloseHandle(thread));
}

static inline void os_yield(void) {
    SwitchToThread();
}

/* A handle that is open until the end. */
static inline os_thread_t os_self(void) {
    HANDLE thread;
    CHECK(DuplicateHandle(GetCurrentProcess(), GetCurrentThread(), GetCurrentProcess(), &thread, 0,
                          FALSE, DUPLICATE_SAME_ACCESS));
    return thread;
}

static inline volatile int *os_interrupts(void) {
    static volatile int count;
    return &count;
}

static inline void os_take_interrupts(void) {}

static inline void CALLBACK os_on_interrupt(ULONG_PTR arg) {
    (void)arg;
    *os_interrupts() = *os_interrupts() + 1;
}

static inline void os_interrupt(os_thread_t thread) {
    CHECK_NE(QueueUserAPC(os_on_interrupt, thread, 0), 0);
}

typedef HANDLE os_sem_t;

static inline void os_sem_init(os_sem_t *sem) {
    *sem = CreateSemaphoreA(NULL, 0, 0x7fffffff, NULL);
    CHECK(*sem != NULL);
}

static inline void os_sem_destroy(os_sem_t *sem) {
    CHECK(CloseHandle(*sem));
}

static inline void os_sem_post(os_sem_t *sem) {
    CHECK(ReleaseSemaphore(*sem, 1, NULL));
}

static inline void os_sem_wait(os_sem_t *sem) {
    CHECK_EQ(WaitForSingleObject(*sem, INFINITE), WAIT_OBJECT_0);
}

static inline uint64_t os_filetime_ms(FILETIME time) {
    return (((uint64_t)time.dwHighDateTime << 32) + time.dwLowDateTime) / 10000;
}

static inline uint64_t os_cpu_ms(void) {
    FILETIME created, exited, system, user;
    CHECK(GetProcessTimes(GetCurrentProcess(), &created, &exited, &system, &user));
    return os_filetime_ms(system) + os_filetime_ms(user);
}

static inline void os_setenv(const char *name, const char *value) {
    char pair[128];
    snprintf(pair, sizeof(pair), "%s=%s", name, value != NULL ? value : "");
    CHECK_EQ(_putenv(pair), 0);
}

static inline evl_os_sock_t os_socket(int domain, int type) {
    evl_os_sock_t sock = socket(domain, type, 0);
    CHECK(sock != OS_NO_SOCK);
    return sock;
}

static inline int os_close(evl_os_sock_t sock) {
    return closesocket(sock);
}

static inline int os_shutdown(evl_os_sock_t sock) {
    return shutdown(sock, SD_SEND);
}

static inline void os_nonblock(evl_os_sock_t sock) {
    u_long on = 1;
    CHECK_EQ(ioctlsocket(sock, (long)FIONBIO, &on), 0);
}

/* Windows does not tell whether a socket blocks, nor takes the wish for a file after it was opened. */
static inline void os_check_flags(evl_os_sock_t sock, int nonblocking) {
    DWORD flags;
    (void)nonblocking;
    CHECK(GetHandleInformation((HANDLE)sock, &flags));
    CHECK_EQ(flags & HANDLE_FLAG_INHERIT, 0);
}

static inline void os_check_file_flags(evl_file file, int nonblocking) {
    os_check_flags((evl_os_sock_t)_get_osfhandle(file), nonblocking);
}

static inline int os_file_close(evl_file file) {
    return _close(file);
}

static inline long os_file_write(evl_file file, const void *bytes, size_t count) {
    return _write(file, bytes, (unsigned)count);
}

static inline long os_file_read(evl_file file, void *bytes, size_t count) {
    return _read(file, bytes, (unsigned)count);
}

static inline void os_pipe(evl_file ends[2]) {
    CHECK_EQ(_pipe(ends, 65536, _O_BINARY | _O_NOINHERIT), 0);
}

static inline void os_chdir(const char *path) {
    CHECK_EQ(_chdir(path), 0);
}

static inline long os_send(evl_os_sock_t sock, const void *bytes, size_t count) {
    return send(sock, (const char *)bytes, (int)count, 0);
}

static inline long os_recv(evl_os_sock_t sock, void *bytes, size_t count) {
    return recv(sock, (char *)bytes, (int)count, 0);
}

static inline int os_poll(evl_os_sock_t sock, short events, int ms) {
    WSAPOLLFD item;
    item.fd = sock;
    item.events = events;
    item.revents = 0;
    CHECK_GE(WSAPoll(&item, 1, ms), 0);
    return item.revents;
}

static inline int os_poll_end(evl_os_sock_t sock) {
    return (os_poll(sock, POLLIN, 0) & POLLHUP) != 0;
}

static inline long os_send_now(evl_os_sock_t sock, const void *bytes, size_t count) {
    u_long off = 0;
    os_nonblock(sock);
    long sent = os_send(sock, bytes, count);
    int error = WSAGetLastError();
    CHECK_EQ(ioctlsocket(sock, (long)FIONBIO, &off), 0);
    WSASetLastError(error);
    return sent;
}

static inline void os_check_sigpipe(void) {}

static inline int os_is_open(evl_os_sock_t sock) {
    int type;
    int length = sizeof(type);
    return getsockopt(sock, SOL_SOCKET, SO_TYPE, (char *)&type, &length) == 0;
}

static inline evl_os_sock_t os_dup(evl_os_sock_t sock) {
    WSAPROTOCOL_INFOW info;
    CHECK_EQ(WSADuplicateSocketW(sock, GetCurrentProcessId(), &info), 0);
    evl_os_sock_t twin = WSASocketW(FROM_PROTOCOL_INFO, FROM_PROTOCOL_INFO, FROM_PROTOCOL_INFO,
                                    &info, 0, WSA_FLAG_OVERLAPPED | WSA_FLAG_NO_HANDLE_INHERIT);
    CHECK(twin != OS_NO_SOCK);
    return twin;
}

/* As os_socketpair_at does it. */
static inline void os_dup_at(evl_os_sock_t sock, evl_os_sock_t number) {
    evl_os_sock_t others[256];
    size_t count = 0;
    if (os_is_open(number))
        CHECK_EQ(closesocket(number), 0);
    for (;;) {
        others[count] = os_dup(sock);
        if (others[count] == number)
            break;
        if (++count == sizeof(others) / sizeof(others[0]))
            SKIP(OS_NO_SUCH_NUMBER);
    }
    while (count > 0)
        closesocket(others[--count]);
}

/* Of all kinds of handles. The system's own come and go, but are not inherited. */
static inline int os_inheritable(void) {
    int count = 0;
    for (uintptr_t handle = 4; handle < 8 * 1024; handle += 4) {
        DWORD flags = 0;
        count += GetHandleInformation((HANDLE)handle, &flags) && (flags & HANDLE_FLAG_INHERIT) != 0;
    }
    return count;
}

static inline evl_file os_open_path(const char *path) {
    HANDLE handle = CreateFileA(path, GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_WRITE, NULL,
                                OPEN_EXISTING, FILE_FLAG_BACKUP_SEMANTICS, NULL);
    CHECK(handle != INVALID_HANDLE_VALUE);
    return _open_osfhandle((intptr_t)handle, _O_RDONLY | _O_BINARY);
}

static inline evl_file os_some_file(void) {
    char path[MAX_PATH];
    CHECK(GetModuleFileNameA(NULL, path, sizeof(path)) != 0);
    return os_open_path(path);
}

static inline evl_file os_some_directory(void) {
    return os_open_path("C:\\");
}

/* By number only. */
static inline unsigned os_scope_id(const char *scope) {
    return (unsigned)strtoul(scope, NULL, 10);
}

static inline int os_inet_pton(int family, const char *text, void *addr) {
    return InetPtonA(family, text, addr);
}

static inline void os_check_nonblock(evl_os_sock_t sock, int nonblocking) {
    (void)sock;
    (void)nonblocking;
}

static inline int os_poll_init(evl_loop_t *loop, evl_poll_t *poll, evl_os_sock_t sock) {
    return evl_poll_init_socket(loop, poll, sock);
}

static inline long os_recv_now(evl_os_sock_t sock, void *bytes, size_t count) {
    if (os_poll(sock, POLLIN, 0) == 0) {
        WSASetLastError(WSAEWOULDBLOCK);
        return -1;
    }
    return os_recv(sock, bytes, count);
}

static inline int os_setsockopt(evl_os_sock_t sock, int level, int name, const void *value,
                                size_t size) {
    return setsockopt(sock, level, name, (const char *)value, (int)size);
}

/* What is yes or no may come as a single byte. */
static inline int os_getsockopt(evl_os_sock_t sock, int level, int name, void *value, size_t size) {
    int length = (int)size;
    memset(value, 0, size);
    return getsockopt(sock, level, name, (char *)value, &length);
}

/* Unbound sockets have no name there. */
static inline int os_domain(evl_os_sock_t sock) {
    WSAPROTOCOL_INFOW info;
    CHECK_EQ(os_getsockopt(sock, SOL_SOCKET, SO_PROTOCOL_INFOW, &info, sizeof(info)), 0);
    return info.iAddressFamily;
}

/* Older systems do not tell. */
static inline void os_check_keepalive(evl_os_sock_t sock, int idle, int intvl, int cnt) {
    (void)sock;
    (void)idle;
    (void)intvl;
    (void)cnt;
}

static inline evl_os_sock_t os_file_handle(evl_file file) {
    return (evl_os_sock_t)_get_osfhandle(file);
}

static inline int os_in_progress(void) {
    return WSAGetLastError() == WSAEWOULDBLOCK;
}

static inline int os_again(void) {
    return WSAGetLastError() == WSAEWOULDBLOCK;
}

#endif

/* ---- Everywhere ------------------------------------------------------------------------------ */

/* What the backend that runs calls the system calls of its own, to make them fail. */
typedef struct {
    const char *backend;
    const char *create; /* makes what the loop sleeps on */
    const char *watch;  /* tells the kernel what to wait for; NULL: nothing is told beforehand */
    const char *wait;   /* sleeps */
    int once;           /* what is watched for is reported once, and must be asked for anew */
} os_calls_t;

static inline const os_calls_t *os_calls(void) {
    static const os_calls_t calls[] = {{"epoll", "epoll_create", "epoll_ctl", "epoll_wait", 0},
                                       {"kqueue", "kqueue", "kevent_change", "kevent", 0},
                                       {"iocp", "iocp_create", "afd_poll", "iocp_wait", 1},
                                       {"poll", "pipe", NULL, "poll", 0}};
    const char *backend = test_backend()[0] != '\0' ? test_backend() : OS_FIRST_BACKEND;
    size_t i = 0;
    while (strcmp(calls[i].backend, backend) != 0 && i < 3)
        i++;
    CHECK_STR(calls[i].backend, backend);
    return &calls[i];
}

/* The kqueue of libkqueue, for systems that have none, is not one in every respect. */
#if defined(EVLOOP_USE_KQUEUE)
#define SKIP_ON_LIBKQUEUE(quirk)                                                                   \
    (strcmp(os_calls()->backend, "kqueue") == 0 ? SKIP("libkqueue: " quirk) : (void)0)
#else
#define SKIP_ON_LIBKQUEUE(quirk) ((void)0)
#endif

#define OS_NO_POLL_ON_KQUEUE "its descriptor is the end of a pipe, never readable"

/* Ends the test where the backend is not told of what it is about. */
#if defined(_WIN32) || defined(POLLRDHUP)
static inline void os_need_half_close(void) {}
#else
static inline void os_need_half_close(void) {
    if (strcmp(os_calls()->backend, "poll") == 0)
        SKIP("poll of this system tells of the end only when both directions are closed");
}
#endif

#if defined(__FreeBSD__) || defined(__NetBSD__)
static inline void os_need_urgent(void) {
    if (strcmp(os_calls()->backend, "kqueue") == 0)
        SKIP("kqueue of this system does not tell of urgent data");
}
#else
static inline void os_need_urgent(void) {
    SKIP_ON_LIBKQUEUE("no EVFILT_EXCEPT, which tells of urgent data");
}
#endif

/* Until the clock has moved, which on some systems is in steps of 100 ns. */
static inline void os_next_tick(void) {
    uint64_t now = test_ns();
    while (test_ns() == now)
        continue;
}

static inline void start_thread(os_thread_t *thread, void *(*run)(void *), void *arg) {
    os_thread_start(thread, 0, run, arg);
}

static inline void join_thread(os_thread_t thread) {
    os_thread_join(thread);
}

/* What the kernel holds for a socket. TCP must know before the connection is made: it has promised
 * room afterwards. */
static inline void os_bound_buffers(evl_os_sock_t sock, int size) {
    CHECK_EQ(os_setsockopt(sock, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)), 0);
    CHECK_EQ(os_setsockopt(sock, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)), 0);
}

/* Connects sockets[0] with a new sockets[1]; both block. buffers: 0 leaves their size to the system. */
static inline void os_tcp_join(evl_os_sock_t sockets[2], int buffers) {
    struct sockaddr_in addr;
    socklen_t length = sizeof(addr);
    evl_os_sock_t listener = os_socket(AF_INET, SOCK_STREAM);
    if (buffers != 0) {
        os_bound_buffers(listener, buffers);
        os_bound_buffers(sockets[0], buffers);
    }
    memset(&addr, 0, sizeof(addr));
    addr.sin_family = AF_INET;
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK_EQ(bind(listener, (struct sockaddr *)&addr, sizeof(addr)), 0);
    CHECK_EQ(listen(listener, 1), 0);
    CHECK_EQ(getsockname(listener, (struct sockaddr *)&addr, &length), 0);
    CHECK_EQ(connect(sockets[0], (struct sockaddr *)&addr, sizeof(addr)), 0);
    sockets[1] = accept(listener, NULL, NULL);
    CHECK(sockets[1] != OS_NO_SOCK);
    CHECK_EQ(os_close(listener), 0);
}

/* Two connected TCP sockets that block. */
static inline void os_tcp_pair(evl_os_sock_t sockets[2]) {
    sockets[0] = os_socket(AF_INET, SOCK_STREAM);
    os_tcp_join(sockets, 0);
}

#if !defined(_WIN32)

/* Two connected sockets that block: local ones where there are such. */
static inline void os_socketpair(evl_os_sock_t sockets[2]) {
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets), 0);
}

/* A pair that holds the least that the kernel grants, and tells nothing before it is read: of local
 * sockets, since TCP on the loopback waits for timers when it is tight. */
static inline void os_tight_pair(evl_os_sock_t sockets[2]) {
    os_socketpair(sockets);
    os_bound_buffers(sockets[0], OS_LEAST_BUFFER);
    os_bound_buffers(sockets[1], OS_LEAST_BUFFER);
}

/* A pair whose first end has the given number, which must be free. */
static inline void os_socketpair_at(evl_os_sock_t sockets[2], evl_os_sock_t number) {
    os_socketpair(sockets);
    if (sockets[1] == number) {
        sockets[1] = sockets[0];
    } else if (sockets[0] != number) {
        os_dup_at(sockets[0], number);
        os_close(sockets[0]);
    }
    sockets[0] = number;
}

#else

/* TCP that holds as much as local sockets do elsewhere. */
static inline void os_socketpair(evl_os_sock_t sockets[2]) {
    sockets[0] = os_socket(AF_INET, SOCK_STREAM);
    os_tcp_join(sockets, 65536);
}

static inline void os_tight_pair(evl_os_sock_t sockets[2]) {
    sockets[0] = os_socket(AF_INET, SOCK_STREAM);
    os_tcp_join(sockets, 4096);
}

/* Nobody may choose a number there. But the system gives them out in some order, and one that is free
 * is among the next. */
static inline void os_socketpair_at(evl_os_sock_t sockets[2], evl_os_sock_t number) {
    evl_os_sock_t others[256];
    size_t count = 0;
    while ((sockets[0] = os_socket(AF_INET, SOCK_STREAM)) != number) {
        if (count == sizeof(others) / sizeof(others[0]))
            SKIP(OS_NO_SUCH_NUMBER);
        others[count++] = sockets[0];
    }
    while (count > 0)
        os_close(others[--count]);
    os_tcp_join(sockets, 65536);
}

#endif

#endif
