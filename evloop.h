/* evloop.h - an event loop in one file. Public domain (Unlicense) or MIT-0, as you like: see the end.

   Timers, tasks, wake-ups, TCP, files, descriptor watching and name lookup on one thread, with a pool
   of others for what would block it, after libuv's model and names (`uv_run` is `evl_run`). On top comes
   what a runtime or a server needs: Node's task queues, lent read buffers, watermarks and caps, stream
   timeouts, time slices for a game's frame.

   Do this in ONE .c or .cpp file, before anything else is included:

       #define EVLOOP_IMPLEMENTATION
       #include "evloop.h"

   and include "evloop.h" plainly wherever else you use it. Build with `cc -O2 prog.c -pthread`.
   A whole program:

       #define EVLOOP_IMPLEMENTATION
       #include "evloop.h"
       #include <stdio.h>

       static void on_tick(evl_timer_t *timer) {
           puts("tick");
           if (++*(int *)timer->data == 3)
               evl_close((evl_handle_t *)timer, NULL);
       }

       int main(void) {
           evl_loop_t loop;
           evl_timer_t timer;
           int ticks = 0;
           evl_loop_init(&loop);
           evl_timer_init(&loop, &timer);
           timer.data = &ticks;
           evl_timer_start(&timer, on_tick, 100, 100);
           evl_run(&loop, EVL_RUN_DEFAULT);
           return evl_loop_close(&loop);
       }


   Contents

     Interface
       - [SECTION] Basics
       - [SECTION] Errors
       - [SECTION] Loop
       - [SECTION] Handles and requests
       - [SECTION] Tasks
       - [SECTION] Timers
       - [SECTION] Watchers
       - [SECTION] Async
       - [SECTION] Streams
       - [SECTION] TCP
       - [SECTION] Poll
       - [SECTION] Addresses
       - [SECTION] Threads
       - [SECTION] Histograms
       - [SECTION] Worker pool
       - [SECTION] Files
       - [SECTION] Name lookup
     Implementation
       - [SECTION] Platform
       - [SECTION] Memory
       - [SECTION] Atomics
       - [SECTION] Lists
       - [SECTION] Lock-free stack
       - [SECTION] Timer heap
       - [SECTION] Task ring
       - [SECTION] Histogram functions
       - [SECTION] Error table
       - [SECTION] POSIX system calls
       - [SECTION] Windows system calls
       - [SECTION] POSIX threads
       - [SECTION] Windows threads
       - [SECTION] Threads everywhere
       - [SECTION] Backend contract
       - [SECTION] Descriptor table
       - [SECTION] Backend epoll
       - [SECTION] Backend kqueue
       - [SECTION] Backend iocp
       - [SECTION] Backend poll
       - [SECTION] Callbacks and turns
       - [SECTION] Inbox
       - [SECTION] Phases
       - [SECTION] Running
       - [SECTION] Loop lifetime
       - [SECTION] Handle functions
       - [SECTION] Timer functions
       - [SECTION] Task functions
       - [SECTION] Watcher functions
       - [SECTION] Async and posts
       - [SECTION] Address functions
       - [SECTION] Stream reading
       - [SECTION] Stream writing
       - [SECTION] Stream listening
       - [SECTION] Stream lifetime
       - [SECTION] Stream bounds
       - [SECTION] Pump
       - [SECTION] TCP functions
       - [SECTION] Poll functions
       - [SECTION] Worker threads
       - [SECTION] Pool functions
       - [SECTION] Work functions
       - [SECTION] File contract
       - [SECTION] POSIX files
       - [SECTION] Windows files
       - [SECTION] File functions
       - [SECTION] Host names
       - [SECTION] Name lookup functions
       - [SECTION] Dispatch tables
     Appendix
       - [SECTION] libuv names
       - [SECTION] Changelog and licence


   The model

   A LOOP belongs to one thread and calls you back there. A HANDLE is long-lived (a timer, a
   socket); a REQUEST is one operation (a write, a connect). Both are plain structs that you
   allocate, on the stack if you like, and that stay yours: the library keeps a pointer to them, so
   they must not move or vanish while in use. A handle is in use from its init function until its
   close callback, a request from its start until its callback.

   evl_run turns the phases until nothing is left to wait for:

          ┌───────────────────────────┐
          │    due timers, once       │   before the first turn, in EVL_RUN_DEFAULT only
          └─────────────┬─────────────┘
       ┌─>┌─────────────┴─────────────┐
       │  │          pending          │   callbacks put off: finished writes, deferred errors
       │  ├───────────────────────────┤
       │  │       idle, prepare       │   in the order in which they were started
       │  ├───────────────────────────┤
       │  │           poll            │   sleeps until something happens; I/O, async, posts;
       │  │                           │   then what became pending, at most 8 rounds of it
       │  ├───────────────────────────┤
       │  │     check, immediates     │
       │  ├───────────────────────────┤
       │  │          closing          │   close callbacks
       │  ├───────────────────────────┤
       └──┤          timers           │   those that are due by a clock read just now
          └───────────────────────────┘

   Ticks, then microtasks, are drained before the first phase and after every callback. No callback
   runs before the call that started it has returned; each request's callback runs exactly once;
   after a close callback nothing of that handle runs any more. Inside a callback you may start,
   stop, close or reuse any handle, also the one that is calling you.

   A handle that is active and referenced keeps evl_run going, and so does a request; evl_unref
   takes a handle out of the count. evl_loop_close frees a loop once every handle is closed;
   evl_loop_destroy closes them for you.

   Threads. Everything belongs to the loop's thread but evl_async_send, evl_post and evl_post_stop,
   which may be called from any thread (evl_async_send and evl_post_stop from a signal handler, too).
   Two loops in two threads share nothing but the pool that does their jobs. A comment that says
   nothing of threads means: the loop's thread. Forking: call evl_loop_fork in the child before the
   loop runs there.

   Errors. Every call that can fail returns 0 or a count, or a negative EVL_E… code at once, and
   then nothing has changed. What fails later comes to the callback as its status. Nothing that the
   kernel or a caller does aborts the program. No signal is raised: a write to a closed peer is
   EVL_EPIPE. Descriptors that the library opens are close-on-exec and nonblocking.

   Bounds. As in libuv nothing is capped until you say so: evl_stream_set_watermarks bounds what a
   slow reader may pile up, evl_listen_limit the connections, evl_stream_set_timeouts the patience.
   One busy handle cannot starve the others: after 32 reads or accepts in a row the rest have their
   turn.

   Memory. Nothing is allocated by timers, ticks, immediates, asyncs, reads into lent buffers and
   writes of up to four buffers, once the loop has warmed up. Timers live in one array of 16 bytes
   each, immediates and timeouts in a slab, ticks in a ring; these grow as needed and never shrink.

   Platforms. Linux: epoll (default) and poll. macOS and the BSDs: kqueue (default) and poll. Windows,
   8.1 and later: I/O completion ports. Other POSIX systems: poll. The environment variable
   EVLOOP_BACKEND (`epoll`, `kqueue`, `iocp`, `poll`) picks one when a loop is initialised.
   C99 or later, C++11 or later; gcc, clang, MSVC 2015 or later, tcc (x86), or your own atomics.

   What differs, because the system does:
     - Sleeps are as fine as the kernel's timers with epoll on Linux 5.11 and later, with kqueue, and
       with poll where there is ppoll. They end on whole milliseconds with poll and epoll elsewhere, on
       half ones on Windows 10 (1803) and later, on ticks of 16 ms on older Windows. A timer is late by
       that much, never early.
     - EVL_DISCONNECT needs a kernel that tells of half-closed peers: Linux, kqueue, Windows. Elsewhere
       with poll it comes when both sides are closed.
     - evl_backend_fd is -1 with `poll` and `iocp`.
     - EVL_TCP_REUSEPORT: Linux, FreeBSD, DragonFly.
     - Windows: link with ws2_32. What takes a sockaddr wants <winsock2.h> or, for IPv6, <ws2tcpip.h>,
       which only the file with the implementation includes; that file includes evloop.h before
       <windows.h> or defines WIN32_LEAN_AND_MEAN, the others as they like. Poll handles watch sockets
       only. A socket whose layered service provider hides the system's socket beneath it cannot be
       watched: EVL_ENOTSUP. There is no fork and no signal to block. SO_REUSEADDR is not set, for it
       would let others steal the port.
     - Files on Windows have no owner and no group, and of the mode only whether the owner may write.
       Descriptors are the C library's, of which there are 8192 at most.
     - The time of a file's birth: Linux 4.11 and later, macOS, FreeBSD, NetBSD, Windows. Elsewhere it is
       that of the last change.


   Configuration, before the include (the first column also where you only include it)

     EVLOOP_IMPLEMENTATION   put the implementation here, in one file of the program
     EVLOOP_STATIC           everything static, in this file alone; implies the implementation
     EVLOOP_API              what stands before each declaration, say a dllexport; default `extern`
     EVLOOP_UV_NAMES         libuv's names as well: uv_run, UV_EINVAL, ...
     EVLOOP_USE_KQUEUE       a kqueue backend where the system has none of its own (libkqueue on Linux)
     EVLOOP_NO_NET           leaves out streams and TCP
     EVLOOP_NO_THREADS       leaves out evl_thread_*, evl_mutex_* and their kin; a pool's jobs run on the
                             loop's thread, in the poll phase
     EVLOOP_NO_FS            leaves out files
     EVLOOP_NO_DNS           leaves out name lookup
     EVLOOP_NO_PROCESS, EVLOOP_NO_SIGNAL, EVLOOP_NO_FS_EVENT, EVLOOP_NO_TTY, EVLOOP_NO_OS,
     EVLOOP_NO_DIAG
                             leave out parts that this version does not have yet: accepted, no effect
     EVLOOP_MALLOC(size), EVLOOP_CALLOC(count, size), EVLOOP_REALLOC(ptr, size), EVLOOP_FREE(ptr)
                             all four or none; default the C library's. Called from the loop's
                             thread, from any thread that calls evl_post, and from a pool's.
     EVLOOP_ASSERT(condition)
                             checks the library's own invariants, never your input; default
                             assert when EVLOOP_DEBUG_ASSERT is defined, else nothing
     EVLOOP_ATOMIC_…         the compiler's atomics, where the library knows none: see Atomics
     EVLOOP_FAULT(name), EVLOOP_SHORT(name, count)
                             for tests: the errno with which the system call `name` is to fail or
                             0, and how much of `count` bytes it is to move; default 0 and `count`
*/
#if (defined(EVLOOP_IMPLEMENTATION) || defined(EVLOOP_STATIC)) && defined(__linux__) &&            \
    !defined(_GNU_SOURCE)
#define _GNU_SOURCE                                                                                \
    1 /* accept4, epoll_pwait2, ppoll: hidden from -std=c99 and -std=c11 otherwise */
#endif

#ifndef EVLOOP_H
#define EVLOOP_H

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <sys/types.h>
#if !defined(_WIN32)
#include <netinet/in.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/socket.h>
#endif

/* Handles are cast to evl_handle_t and evl_stream_t and back; in one file with the implementation the
 * compiler must be told that they may be the same memory. */
#if defined(__GNUC__) && !defined(__TINYC__)
#define EVLI_MAY_ALIAS __attribute__((__may_alias__))
#else
#define EVLI_MAY_ALIAS
#endif

#ifdef __cplusplus
extern "C" {
#endif

struct sockaddr;
struct sockaddr_in;
struct sockaddr_in6;
struct addrinfo;
#if defined(_MSC_VER) && !defined(_SSIZE_T_DEFINED)
#define _SSIZE_T_DEFINED
typedef intptr_t ssize_t;
#endif

/* ==== [SECTION] Basics ==== */

/* The version of this header and of the libuv interface that it follows. */
#define EVLOOP_VERSION         "0.1.0"
#define EVL_VERSION_MAJOR      1
#define EVL_VERSION_MINOR      52
#define EVL_VERSION_PATCH      0
#define EVL_VERSION_IS_RELEASE 1
#define EVL_VERSION_SUFFIX     ""
#define EVL_VERSION_HEX        ((EVL_VERSION_MAJOR << 16) | (EVL_VERSION_MINOR << 8) | EVL_VERSION_PATCH)

#if defined(EVLOOP_STATIC)
#undef EVLOOP_API
#if defined(__GNUC__) || defined(__TINYC__)
#define EVLOOP_API __attribute__((unused)) static
#else
#define EVLOOP_API static
#endif
#elif !defined(EVLOOP_API)
#define EVLOOP_API extern
#endif

#if defined(EVLOOP_NO_NET)
#define EVLI_HAVE_STREAMS 0
#else
#define EVLI_HAVE_STREAMS 1
#endif

/* What the operating system calls a socket, a descriptor, a file and a process. */
#if defined(_WIN32)
typedef uintptr_t evl_os_sock_t;
typedef void *evl_os_fd_t;
typedef int evl_file;
typedef int evl_pid_t;
typedef unsigned char evl_uid_t;
typedef unsigned char evl_gid_t;
#else
typedef int evl_os_sock_t;
typedef int evl_os_fd_t;
typedef int evl_file;
typedef pid_t evl_pid_t;
typedef uid_t evl_uid_t;
typedef gid_t evl_gid_t;
#endif

/* A run of bytes, laid out as the system's scatter/gather functions want it. */
typedef struct evl_buf_t {
#if defined(_WIN32)
    unsigned long len;
    char *base;
#else
    char *base;
    size_t len;
#endif
} evl_buf_t;

typedef struct evl_loop_s evl_loop_t;
typedef struct evl_handle_s evl_handle_t;
typedef struct evl_stream_s evl_stream_t;
typedef struct evl_tcp_s evl_tcp_t;
typedef struct evl_poll_s evl_poll_t;
typedef struct evl_timer_s evl_timer_t;
typedef struct evl_prepare_s evl_prepare_t;
typedef struct evl_check_s evl_check_t;
typedef struct evl_idle_s evl_idle_t;
typedef struct evl_async_s evl_async_t;
typedef struct evl_req_s evl_req_t;
typedef struct evl_shutdown_s evl_shutdown_t;
typedef struct evl_write_s evl_write_t;
typedef struct evl_connect_s evl_connect_t;
typedef struct evl_pump_s evl_pump_t;
typedef struct evl_work_s evl_work_t;
typedef struct evl_random_s evl_random_t;
typedef struct evl_getaddrinfo_s evl_getaddrinfo_t;
typedef struct evl_getnameinfo_s evl_getnameinfo_t;
typedef struct evl_pool_s evl_pool_t;
typedef struct evl_fs_s evl_fs_t;
typedef struct evl_dir_s evl_dir_t;
typedef struct evl_dirent_s evl_dirent_t;
typedef struct evl_statfs_s evl_statfs_t;

/* Versions as numbers and text, of the libuv interface that is followed. Thread: any. */
EVLOOP_API unsigned int evl_version(void);
EVLOOP_API const char *evl_version_string(void);

/* A buffer descriptor for `len` bytes at `base`. Thread: any. */
EVLOOP_API evl_buf_t evl_buf_init(char *base, unsigned int len);

typedef void *(*evl_malloc_func)(size_t size);
typedef void *(*evl_realloc_func)(void *ptr, size_t size);
typedef void *(*evl_calloc_func)(size_t count, size_t size);
typedef void (*evl_free_func)(void *ptr);

/* Replaces the allocator for the whole process; the EVLOOP_MALLOC family is the one at the start.
 * Errors: EVL_EINVAL when one of the four is NULL.
 * Thread: any, but before the first use of the library. */
EVLOOP_API int evl_replace_allocator(evl_malloc_func malloc_func, evl_realloc_func realloc_func,
                                     evl_calloc_func calloc_func, evl_free_func free_func);

/* Nanoseconds of a monotonic clock whose start means nothing. Thread: any. */
EVLOOP_API uint64_t evl_hrtime(void);

typedef enum { EVL_CLOCK_MONOTONIC, EVL_CLOCK_REALTIME } evl_clock_id;
typedef struct {
    int64_t tv_sec;
    int32_t tv_nsec;
} evl_timespec64_t;

/* Reads a clock of the system. Errors: EVL_EFAULT (ts is NULL), EVL_EINVAL (no such clock).
 * Thread: any. */
EVLOOP_API int evl_clock_gettime(evl_clock_id clock_id, evl_timespec64_t *ts);

/* Puts the calling thread to sleep for `msec` milliseconds, whatever signals come. Thread: any. */
EVLOOP_API void evl_sleep(unsigned int msec);

/* ==== [SECTION] Errors ==== */

/* Name, the code where the system has no errno of that name, and the message. */
#define EVL_ERRNO_MAP(XX)                                                                          \
    XX(E2BIG, "argument list too long")                                                            \
    XX(EACCES, "permission denied")                                                                \
    XX(EADDRINUSE, "address already in use")                                                       \
    XX(EADDRNOTAVAIL, "address not available")                                                     \
    XX(EAFNOSUPPORT, "address family not supported")                                               \
    XX(EAGAIN, "resource temporarily unavailable")                                                 \
    XX(EAI_ADDRFAMILY, "address family not supported")                                             \
    XX(EAI_AGAIN, "temporary failure")                                                             \
    XX(EAI_BADFLAGS, "bad ai_flags value")                                                         \
    XX(EAI_BADHINTS, "invalid value for hints")                                                    \
    XX(EAI_CANCELED, "request canceled")                                                           \
    XX(EAI_FAIL, "permanent failure")                                                              \
    XX(EAI_FAMILY, "ai_family not supported")                                                      \
    XX(EAI_MEMORY, "out of memory")                                                                \
    XX(EAI_NODATA, "no address")                                                                   \
    XX(EAI_NONAME, "unknown node or service")                                                      \
    XX(EAI_OVERFLOW, "argument buffer overflow")                                                   \
    XX(EAI_PROTOCOL, "resolved protocol is unknown")                                               \
    XX(EAI_SERVICE, "service not available for socket type")                                       \
    XX(EAI_SOCKTYPE, "socket type not supported")                                                  \
    XX(EALREADY, "connection already in progress")                                                 \
    XX(EBADF, "bad file descriptor")                                                               \
    XX(EBUSY, "resource busy or locked")                                                           \
    XX(ECANCELED, "operation canceled")                                                            \
    XX(ECHARSET, "invalid Unicode character")                                                      \
    XX(ECONNABORTED, "software caused connection abort")                                           \
    XX(ECONNREFUSED, "connection refused")                                                         \
    XX(ECONNRESET, "connection reset by peer")                                                     \
    XX(EDESTADDRREQ, "destination address required")                                               \
    XX(EEXIST, "file already exists")                                                              \
    XX(EFAULT, "bad address in system call argument")                                              \
    XX(EFBIG, "file too large")                                                                    \
    XX(EHOSTUNREACH, "host is unreachable")                                                        \
    XX(EINTR, "interrupted system call")                                                           \
    XX(EINVAL, "invalid argument")                                                                 \
    XX(EIO, "i/o error")                                                                           \
    XX(EISCONN, "socket is already connected")                                                     \
    XX(EISDIR, "illegal operation on a directory")                                                 \
    XX(ELOOP, "too many symbolic links encountered")                                               \
    XX(EMFILE, "too many open files")                                                              \
    XX(EMSGSIZE, "message too long")                                                               \
    XX(ENAMETOOLONG, "name too long")                                                              \
    XX(ENETDOWN, "network is down")                                                                \
    XX(ENETUNREACH, "network is unreachable")                                                      \
    XX(ENFILE, "file table overflow")                                                              \
    XX(ENOBUFS, "no buffer space available")                                                       \
    XX(ENODEV, "no such device")                                                                   \
    XX(ENOENT, "no such file or directory")                                                        \
    XX(ENOMEM, "not enough memory")                                                                \
    XX(ENONET, "machine is not on the network")                                                    \
    XX(ENOPROTOOPT, "protocol not available")                                                      \
    XX(ENOSPC, "no space left on device")                                                          \
    XX(ENOSYS, "function not implemented")                                                         \
    XX(ENOTCONN, "socket is not connected")                                                        \
    XX(ENOTDIR, "not a directory")                                                                 \
    XX(ENOTEMPTY, "directory not empty")                                                           \
    XX(ENOTSOCK, "socket operation on non-socket")                                                 \
    XX(ENOTSUP, "operation not supported on socket")                                               \
    XX(EOVERFLOW, "value too large for defined data type")                                         \
    XX(EPERM, "operation not permitted")                                                           \
    XX(EPIPE, "broken pipe")                                                                       \
    XX(EPROTO, "protocol error")                                                                   \
    XX(EPROTONOSUPPORT, "protocol not supported")                                                  \
    XX(EPROTOTYPE, "protocol wrong type for socket")                                               \
    XX(ERANGE, "result too large")                                                                 \
    XX(EROFS, "read-only file system")                                                             \
    XX(ESHUTDOWN, "cannot send after transport endpoint shutdown")                                 \
    XX(ESPIPE, "invalid seek")                                                                     \
    XX(ESRCH, "no such process")                                                                   \
    XX(ETIMEDOUT, "connection timed out")                                                          \
    XX(ETXTBSY, "text file is busy")                                                               \
    XX(EXDEV, "cross-device link not permitted")                                                   \
    XX(UNKNOWN, "unknown error")                                                                   \
    XX(EOF, "end of file")                                                                         \
    XX(ENXIO, "no such device or address")                                                         \
    XX(EMLINK, "too many links")                                                                   \
    XX(EHOSTDOWN, "host is down")                                                                  \
    XX(EREMOTEIO, "remote I/O error")                                                              \
    XX(ENOTTY, "inappropriate ioctl for device")                                                   \
    XX(EFTYPE, "inappropriate file type or format")                                                \
    XX(EILSEQ, "illegal byte sequence")                                                            \
    XX(ESOCKTNOSUPPORT, "socket type not supported")                                               \
    XX(ENODATA, "no data available")                                                               \
    XX(EUNATCH, "protocol driver not attached")                                                    \
    XX(ENOEXEC, "exec format error")

/* The codes: the negated errno where the system has one, else a number of our own far below. */
/* clang-format off: one code a line would hide the list in itself */
typedef enum {
    EVL_EAI_ADDRFAMILY = -3000,
    EVL_EAI_AGAIN = -3001,
    EVL_EAI_BADFLAGS = -3002,
    EVL_EAI_BADHINTS = -3013,
    EVL_EAI_CANCELED = -3003,
    EVL_EAI_FAIL = -3004,
    EVL_EAI_FAMILY = -3005,
    EVL_EAI_MEMORY = -3006,
    EVL_EAI_NODATA = -3007,
    EVL_EAI_NONAME = -3008,
    EVL_EAI_OVERFLOW = -3009,
    EVL_EAI_PROTOCOL = -3014,
    EVL_EAI_SERVICE = -3010,
    EVL_EAI_SOCKTYPE = -3011,
    EVL_UNKNOWN = -4094,
    EVL_EOF = -4095,
#if defined(_WIN32)
    EVL_E2BIG = -4093,
    EVL_EACCES = -4092,
    EVL_EADDRINUSE = -4091,
    EVL_EADDRNOTAVAIL = -4090,
    EVL_EAFNOSUPPORT = -4089,
    EVL_EAGAIN = -4088,
    EVL_EALREADY = -4084,
    EVL_EBADF = -4083,
    EVL_EBUSY = -4082,
    EVL_ECANCELED = -4081,
    EVL_ECONNABORTED = -4079,
    EVL_ECONNREFUSED = -4078,
    EVL_ECONNRESET = -4077,
    EVL_EDESTADDRREQ = -4076,
    EVL_EEXIST = -4075,
    EVL_EFAULT = -4074,
    EVL_EFBIG = -4036,
    EVL_EHOSTUNREACH = -4073,
    EVL_EINTR = -4072,
    EVL_EINVAL = -4071,
    EVL_EIO = -4070,
    EVL_EISCONN = -4069,
    EVL_EISDIR = -4068,
    EVL_ELOOP = -4067,
    EVL_EMFILE = -4066,
    EVL_EMSGSIZE = -4065,
    EVL_ENAMETOOLONG = -4064,
    EVL_ENETDOWN = -4063,
    EVL_ENETUNREACH = -4062,
    EVL_ENFILE = -4061,
    EVL_ENOBUFS = -4060,
    EVL_ENODEV = -4059,
    EVL_ENOENT = -4058,
    EVL_ENOMEM = -4057,
    EVL_ENOPROTOOPT = -4035,
    EVL_ENOSPC = -4055,
    EVL_ENOSYS = -4054,
    EVL_ENOTCONN = -4053,
    EVL_ENOTDIR = -4052,
    EVL_ENOTEMPTY = -4051,
    EVL_ENOTSOCK = -4050,
    EVL_ENOTSUP = -4049,
    EVL_EOVERFLOW = -4026,
    EVL_EPERM = -4048,
    EVL_EPIPE = -4047,
    EVL_EPROTO = -4046,
    EVL_EPROTONOSUPPORT = -4045,
    EVL_EPROTOTYPE = -4044,
    EVL_ERANGE = -4034,
    EVL_EROFS = -4043,
    EVL_ESHUTDOWN = -4042,
    EVL_ESPIPE = -4041,
    EVL_ESRCH = -4040,
    EVL_ETIMEDOUT = -4039,
    EVL_ETXTBSY = -4038,
    EVL_EXDEV = -4037,
    EVL_ENXIO = -4033,
    EVL_EMLINK = -4032,
    EVL_ENOTTY = -4029,
    EVL_EILSEQ = -4027,
    EVL_ENOEXEC = -4022,
    EVL_ECHARSET = -4080,
    EVL_ENONET = -4056,
    EVL_EREMOTEIO = -4030,
    EVL_EFTYPE = -4028,
    EVL_EHOSTDOWN = -4031,
    EVL_ESOCKTNOSUPPORT = -4025,
    EVL_ENODATA = -4024,
    EVL_EUNATCH = -4023,
#else
    EVL_E2BIG = -E2BIG,
    EVL_EACCES = -EACCES,
    EVL_EADDRINUSE = -EADDRINUSE,
    EVL_EADDRNOTAVAIL = -EADDRNOTAVAIL,
    EVL_EAFNOSUPPORT = -EAFNOSUPPORT,
    EVL_EAGAIN = -EAGAIN,
    EVL_EALREADY = -EALREADY,
    EVL_EBADF = -EBADF,
    EVL_EBUSY = -EBUSY,
    EVL_ECANCELED = -ECANCELED,
    EVL_ECONNABORTED = -ECONNABORTED,
    EVL_ECONNREFUSED = -ECONNREFUSED,
    EVL_ECONNRESET = -ECONNRESET,
    EVL_EDESTADDRREQ = -EDESTADDRREQ,
    EVL_EEXIST = -EEXIST,
    EVL_EFAULT = -EFAULT,
    EVL_EFBIG = -EFBIG,
    EVL_EHOSTUNREACH = -EHOSTUNREACH,
    EVL_EINTR = -EINTR,
    EVL_EINVAL = -EINVAL,
    EVL_EIO = -EIO,
    EVL_EISCONN = -EISCONN,
    EVL_EISDIR = -EISDIR,
    EVL_ELOOP = -ELOOP,
    EVL_EMFILE = -EMFILE,
    EVL_EMSGSIZE = -EMSGSIZE,
    EVL_ENAMETOOLONG = -ENAMETOOLONG,
    EVL_ENETDOWN = -ENETDOWN,
    EVL_ENETUNREACH = -ENETUNREACH,
    EVL_ENFILE = -ENFILE,
    EVL_ENOBUFS = -ENOBUFS,
    EVL_ENODEV = -ENODEV,
    EVL_ENOENT = -ENOENT,
    EVL_ENOMEM = -ENOMEM,
    EVL_ENOPROTOOPT = -ENOPROTOOPT,
    EVL_ENOSPC = -ENOSPC,
    EVL_ENOSYS = -ENOSYS,
    EVL_ENOTCONN = -ENOTCONN,
    EVL_ENOTDIR = -ENOTDIR,
    EVL_ENOTEMPTY = -ENOTEMPTY,
    EVL_ENOTSOCK = -ENOTSOCK,
    EVL_ENOTSUP = -ENOTSUP,
    EVL_EOVERFLOW = -EOVERFLOW,
    EVL_EPERM = -EPERM,
    EVL_EPIPE = -EPIPE,
    EVL_EPROTO = -EPROTO,
    EVL_EPROTONOSUPPORT = -EPROTONOSUPPORT,
    EVL_EPROTOTYPE = -EPROTOTYPE,
    EVL_ERANGE = -ERANGE,
    EVL_EROFS = -EROFS,
    EVL_ESHUTDOWN = -ESHUTDOWN,
    EVL_ESPIPE = -ESPIPE,
    EVL_ESRCH = -ESRCH,
    EVL_ETIMEDOUT = -ETIMEDOUT,
    EVL_ETXTBSY = -ETXTBSY,
    EVL_EXDEV = -EXDEV,
    EVL_ENXIO = -ENXIO,
    EVL_EMLINK = -EMLINK,
    EVL_ENOTTY = -ENOTTY,
    EVL_EILSEQ = -EILSEQ,
    EVL_ENOEXEC = -ENOEXEC,
#if defined(ECHARSET)
    EVL_ECHARSET = -ECHARSET,
#else
    EVL_ECHARSET = -4080,
#endif
#if defined(ENONET)
    EVL_ENONET = -ENONET,
#else
    EVL_ENONET = -4056,
#endif
#if defined(EREMOTEIO)
    EVL_EREMOTEIO = -EREMOTEIO,
#else
    EVL_EREMOTEIO = -4030,
#endif
#if defined(EFTYPE)
    EVL_EFTYPE = -EFTYPE,
#else
    EVL_EFTYPE = -4028,
#endif
#if defined(EHOSTDOWN)
    EVL_EHOSTDOWN = -EHOSTDOWN,
#else
    EVL_EHOSTDOWN = -4031,
#endif
#if defined(ESOCKTNOSUPPORT)
    EVL_ESOCKTNOSUPPORT = -ESOCKTNOSUPPORT,
#else
    EVL_ESOCKTNOSUPPORT = -4025,
#endif
#if defined(ENODATA)
    EVL_ENODATA = -ENODATA,
#else
    EVL_ENODATA = -4024,
#endif
#if defined(EUNATCH)
    EVL_EUNATCH = -EUNATCH,
#else
    EVL_EUNATCH = -4023,
#endif
#endif
    EVL_ERRNO_MAX = -4096,
} evl_errno_t;
/* clang-format on */

/* The message and the name of a code; for a code that is none, a text that holds the number.
 * Lifetime: the _r forms write at most buflen bytes, cut off and terminated, and return buf; the
 * others return static text, but for an unknown code, whose text lives in one buffer that the next
 * such call from any thread overwrites.
 * Thread: any. */
EVLOOP_API const char *evl_strerror(int err);
EVLOOP_API char *evl_strerror_r(int err, char *buf, size_t buflen);
EVLOOP_API const char *evl_err_name(int err);
EVLOOP_API char *evl_err_name_r(int err, char *buf, size_t buflen);

/* The EVL_E… code of a system error (errno; on Windows a GetLastError or WSAGetLastError value).
 * A value that is no such error, zero or negative, is returned as it is. Thread: any. */
EVLOOP_API int evl_translate_sys_error(int sys_errno);

/* ---- Private building blocks of the public structs. Not for use. ---- */

typedef struct evli_link_s {
    struct evli_link_s *next; /* in a ring with its list's head; NULL: in no list */
    struct evli_link_s *prev;
} evli_link_t;

typedef struct evli_node_s {
    struct evli_node_s *next; /* in a lock-free stack, or in the chain taken from it */
} evli_node_t;

typedef struct evli_chain_s {
    evli_node_t *taken; /* from the loop's inbox, for the next pass */
    evli_node_t **end;
    evli_node_t *batch; /* to run in this one */
} evli_chain_t;

typedef struct evli_due_s {
    uint64_t due_ns;
    uint64_t order; /* counts starts: who started first runs first */
    uint32_t index; /* where its entry is: EVLI_DUE_TAKEN …; 0: nowhere */
    uint32_t kind;  /* whose deadline this is: EVLI_DUE_… */
} evli_due_t;

typedef struct evli_io_s {
    evli_link_t link; /* in the loop's ready or pending queue */
    evl_os_sock_t fd; /* -1: none */
    uint32_t key;     /* the backend's own: a generation or a slot */
    uint8_t want;     /* EVLI_IN … that the engine waits for */
    uint8_t armed;    /* … that the backend has promised to report */
    uint8_t ready;    /* … reported and not used up yet */
    uint8_t kind;     /* whose it is: EVLI_IO_… */
    int32_t error;    /* the engine's: an error to be reported later */
} evli_io_t;

/* What a pool has to do for a request. */
typedef struct evli_job_s {
    evli_link_t own; /* in the loop's list of its jobs */
    union {
        evli_link_t link; /* in the pool's queue */
        evli_node_t node; /* on its way to the pool or back, or claimed by a worker */
    } in;
    struct evli_node_s **slot; /* the worker's claim; NULL: never claimed */
    evl_loop_t *loop;
    evl_pool_t *pool;
    const struct evli_job_kind_s *kind; /* whose job it is */
    uint64_t queued_ns;
    int32_t error;
    uint32_t back;  /* atomic: it is done, or was cancelled, and on its way to the loop */
    uint32_t forks; /* of the pool when it got the job */
} evli_job_t;

typedef struct evli_ring_s {
    struct evli_ring_item_s *items;
    uint32_t head, count, capacity; /* the capacity is a power of two, or 0 */
} evli_ring_t;

/* ==== [SECTION] Loop ==== */

typedef enum { EVL_RUN_DEFAULT = 0, EVL_RUN_ONCE, EVL_RUN_NOWAIT } evl_run_mode;

typedef enum {
    EVL_LOOP_BLOCK_SIGNAL = 0,   /* int signum: blocked while the loop sleeps; SIGPROF only */
    EVL_METRICS_IDLE_TIME,       /* count the time asleep: evl_metrics_idle_time */
    EVL_LOOP_USE_IO_URING_SQPOLL /* EVL_ENOSYS: no backend of this version has a submission thread */
} evl_loop_option;

typedef void (*evl_walk_cb)(evl_handle_t *handle, void *arg);

/* Tasks: see the section of that name. */
typedef void (*evl_task_cb)(evl_loop_t *loop, void *arg);
typedef uint64_t evl_task_id; /* never 0 */

/* A loop. Its size depends on nothing but the platform. */
struct evl_loop_s {
    void *data; /* yours */
    struct {
        uint64_t now_ns;   /* the cached time */
        uint64_t fresh_ns; /* read at this callback's first timer start; 0: not read yet */
        uint32_t turn;     /* what is due after a callback: EVLI_TURN_… */
        uint32_t phase;    /* of an iteration that evl_run_for left unfinished; 0: none */
        uint32_t flags;
        uint32_t active_handles;
        uint32_t active_reqs;
        uint32_t active_tasks;
        evli_link_t handles;
        evli_link_t pending, ready, batch;  /* of evli_io_t */
        evl_write_t *written;               /* writes that are through … */
        evl_write_t **written_end;          /* … the end of that */
        evl_write_t *written_batch;         /* … those whose callbacks are being made */
        evli_link_t watchers[3];            /* idle, prepare, check */
        evli_link_t cursor, mark;           /* a pass over the watchers: the place, the end */
        evli_link_t closing, closing_batch; /* of handles */
        struct {
            void *block;                       /* that holds the entries */
            struct evli_heap_entry_s *entries; /* the heap's at the front, those taken at the end */
            uint32_t count, taken, capacity;
        } heap;
        uint64_t starts;  /* of timers so far */
        uint64_t pass_ns; /* the pass over the timers takes those that are due by then */
        evli_ring_t ticks, microtasks;
        evl_task_cb checkpoint_cb;
        void *checkpoint_arg;
        struct {
            struct evli_task_s **chunks;
            struct evli_task_s *free_list;
            uint32_t nchunks;
        } tasks;
        evli_link_t immediates, immediate_batch;
        evli_node_t *inbox; /* atomic: what was sent to the loop and not taken yet */
        uint32_t wakes;     /* atomic: wake-ups that senders have made */
        uint32_t owed;      /* … that they have made or are about to make */
        uint32_t stoppers;  /* atomic: threads inside evl_post_stop */
        uint32_t stop;      /* atomic */
        evli_chain_t asyncs, posts, done;
        evli_link_t jobs;     /* that are outstanding */
        evl_pool_t *pool;     /* NULL: the default one */
        int signal;           /* blocked while asleep; 0: none */
        uint32_t walks;       /* under way, one within the other */
        uint32_t late_rounds; /* of pending callbacks in this poll phase */
        uint64_t deadline_ns; /* of evl_run_for; 0: none */
        uint64_t callbacks;   /* made while under a deadline */
        uint64_t wake_ns;     /* when a sleep is to end, whatever timers say; 0: no such time */
        char *lent;           /* the block that reads without an alloc_cb go into */
        const struct evli_backend_s *backend;
        void *poller; /* the backend's state */
        uint64_t loop_count, events, events_waiting;
        struct {
            uint32_t version;    /* atomic, as the rest: odd while it is written */
            uint32_t slept[2];   /* nanoseconds asleep so far: the lower half, the upper half */
            uint32_t entered[2]; /* when the sleep that is under way began; 0: none is */
        } idle;
    } priv;
};

/* Makes a loop ready for use. The environment variable EVLOOP_BACKEND picks the poller.
 * Returns 0. Errors: EVL_EINVAL (EVLOOP_BACKEND names none that is compiled in), EVL_ENOMEM,
 * EVL_EMFILE, EVL_ENFILE. Thread: any; the loop then belongs to the thread that runs it. */
EVLOOP_API int evl_loop_init(evl_loop_t *loop);

/* Frees what the loop holds; the struct is yours again.
 * Errors: EVL_EBUSY, and nothing has changed, while a handle is not closed, a request, task or
 * post is outstanding, or the loop runs. */
EVLOOP_API int evl_loop_close(evl_loop_t *loop);

/* Teardown in one call: closes every handle, forgets tasks, runs the loop until all close and
 * request callbacks have run, then closes it. `timeout_ms` bounds the wait for what runs elsewhere.
 * Errors: EVL_ETIMEDOUT (call it again), EVL_EBUSY (called from a callback of this loop). */
EVLOOP_API int evl_loop_destroy(evl_loop_t *loop, uint64_t timeout_ms);

/* Sets an option; each takes one argument, see evl_loop_option.
 * Errors: EVL_ENOSYS (no such option here), EVL_EINVAL (the argument). */
EVLOOP_API int evl_loop_configure(evl_loop_t *loop, int option, ...);

/* A loop of the process's own, made at the first call. Returns NULL when that fails.
 * Thread: any one thread at a time. */
EVLOOP_API evl_loop_t *evl_default_loop(void);

/* A loop on the heap, and its end. Kept for old programs: prefer evl_loop_init. NULL on failure. */
EVLOOP_API evl_loop_t *evl_loop_new(void);
EVLOOP_API void evl_loop_delete(evl_loop_t *loop);

/* Releases what the library holds for the whole process: the default loop, if nothing is open in it,
 * and the default pool, once it has done what is queued.
 * Thread: any, when no loop runs any more. */
EVLOOP_API void evl_library_shutdown(void);

/* sizeof(evl_loop_t), for those who cannot ask the compiler. Thread: any. */
EVLOOP_API size_t evl_loop_size(void);

/* Your pointer: the field `data`. */
EVLOOP_API void *evl_loop_get_data(const evl_loop_t *loop);
EVLOOP_API void evl_loop_set_data(evl_loop_t *loop, void *data);

/* After fork, in the child, before the loop runs there or is closed: gives the loop kernel objects of
 * its own and registers every handle again. A handle whose descriptor is closed by then is told
 * EVL_EBADF.
 * Errors: EVL_EMFILE, EVL_ENFILE, EVL_ENOMEM (call it again then), EVL_ENOSYS (Windows has no fork). */
EVLOOP_API int evl_loop_fork(evl_loop_t *loop);

/* Turns the phases. EVL_RUN_DEFAULT: until nothing active is left or evl_stop; EVL_RUN_ONCE: one
 * iteration, which may sleep; EVL_RUN_NOWAIT: one that does not.
 * Returns non-zero when there is still something to run for.
 * Errors: EVL_EBUSY when called from a callback of this loop, EVL_EINVAL (no such mode). */
EVLOOP_API int evl_run(evl_loop_t *loop, evl_run_mode mode);

/* A slice of a game's frame: iterates without sleeping as long as callbacks are due, and starts no
 * further one once `budget_ns` has passed, by the clock that it reads after each; the next run of any
 * kind goes on where this one left off. Returns as evl_run, with its errors. */
EVLOOP_API int evl_run_for(evl_loop_t *loop, uint64_t budget_ns);

/* Makes evl_run return as soon as its iteration is done; before evl_run, it keeps that run from
 * turning at all. */
EVLOOP_API void evl_stop(evl_loop_t *loop);

/* evl_stop from anywhere: also wakes a loop that sleeps. Thread: any, and signal handlers. */
EVLOOP_API int evl_post_stop(evl_loop_t *loop);

/* Whether anything active and referenced, a request, a task, a post or a closing handle is left. */
EVLOOP_API int evl_loop_alive(const evl_loop_t *loop);

/* Calls `walk_cb` for every handle, also those that are closing. It may close handles; those that it
 * makes are not visited. */
EVLOOP_API void evl_walk(evl_loop_t *loop, evl_walk_cb walk_cb, void *arg);

/* The cached time in milliseconds and nanoseconds: read when an iteration has polled, or, if it has
 * nothing to call then, by the first call of one of these. */
EVLOOP_API uint64_t evl_now(const evl_loop_t *loop);
EVLOOP_API uint64_t evl_now_ns(const evl_loop_t *loop);

/* Reads the clock into the cached time, for callbacks that run long. */
EVLOOP_API void evl_update_time(evl_loop_t *loop);

/* For embedding in another loop: a descriptor that becomes readable when evl_run has something to do
 * (-1 where the backend has none, as `poll` and `iocp`), and for how many milliseconds that loop may
 * sleep on it (-1: for ever). Once the descriptor has been asked for, what other threads send while
 * evl_run does not run makes it readable, too. */
EVLOOP_API int evl_backend_fd(const evl_loop_t *loop);
EVLOOP_API int evl_backend_timeout(const evl_loop_t *loop);

typedef struct evl_metrics_s {
    uint64_t loop_count;     /* iterations */
    uint64_t events;         /* that the poller reported, and batches of asyncs */
    uint64_t events_waiting; /* … of those, found by looking without sleeping */
} evl_metrics_t;

/* Counters of the loop. */
EVLOOP_API int evl_metrics_info(evl_loop_t *loop, evl_metrics_t *metrics);

/* The nanoseconds that the loop has slept so far, a sleep that is under way included. 0 unless
 * EVL_METRICS_IDLE_TIME is configured; with it, the loop looks once for events before it sleeps.
 * Thread: any. */
EVLOOP_API uint64_t evl_metrics_idle_time(evl_loop_t *loop);

/* ==== [SECTION] Handles and requests ==== */

#define EVL_HANDLE_TYPE_MAP(XX)                                                                    \
    XX(ASYNC, async)                                                                               \
    XX(CHECK, check)                                                                               \
    XX(FS_EVENT, fs_event)                                                                         \
    XX(FS_POLL, fs_poll)                                                                           \
    XX(HANDLE, handle)                                                                             \
    XX(IDLE, idle)                                                                                 \
    XX(NAMED_PIPE, pipe)                                                                           \
    XX(POLL, poll)                                                                                 \
    XX(PREPARE, prepare)                                                                           \
    XX(PROCESS, process)                                                                           \
    XX(STREAM, stream)                                                                             \
    XX(TCP, tcp)                                                                                   \
    XX(TIMER, timer)                                                                               \
    XX(TTY, tty)                                                                                   \
    XX(UDP, udp)                                                                                   \
    XX(SIGNAL, signal)

#define EVL_REQ_TYPE_MAP(XX)                                                                       \
    XX(REQ, req)                                                                                   \
    XX(CONNECT, connect)                                                                           \
    XX(WRITE, write)                                                                               \
    XX(SHUTDOWN, shutdown)                                                                         \
    XX(UDP_SEND, udp_send)                                                                         \
    XX(FS, fs)                                                                                     \
    XX(WORK, work)                                                                                 \
    XX(GETADDRINFO, getaddrinfo)                                                                   \
    XX(GETNAMEINFO, getnameinfo)                                                                   \
    XX(RANDOM, random)                                                                             \
    XX(PUMP, pump)

typedef enum {
    EVL_UNKNOWN_HANDLE = 0,
#define XX(upper, lower) EVL_##upper,
    EVL_HANDLE_TYPE_MAP(XX)
#undef XX
        EVL_FILE,
    EVL_HANDLE_TYPE_MAX
} evl_handle_type;

typedef enum {
    EVL_UNKNOWN_REQ = 0,
#define XX(upper, lower) EVL_##upper,
    EVL_REQ_TYPE_MAP(XX)
#undef XX
        EVL_REQ_TYPE_MAX
} evl_req_type;

typedef void (*evl_close_cb)(evl_handle_t *handle);

/* What every handle begins with, so that a pointer to one may be cast to evl_handle_t. */
#define EVLI_HANDLE_FIELDS                                                                         \
    void *data;           /* yours */                                                              \
    evl_loop_t *loop;     /* read-only */                                                          \
    evl_handle_type type; /* read-only */                                                          \
    uint32_t flags;       /* private, like all that follows */                                     \
    evl_close_cb close_cb;                                                                         \
    evli_link_t link;

struct evl_handle_s {
    EVLI_HANDLE_FIELDS
} EVLI_MAY_ALIAS;

/* What every request begins with. */
#define EVLI_REQ_FIELDS                                                                            \
    void *data;        /* yours */                                                                 \
    evl_req_type type; /* read-only */                                                             \
    int32_t error;     /* private */

struct evl_req_s {
    EVLI_REQ_FIELDS
} EVLI_MAY_ALIAS;

/* Whether the handle does something: a timer runs, a stream reads or listens, an async exists. */
EVLOOP_API int evl_is_active(const evl_handle_t *handle);

/* Whether evl_close has been called. True until the memory is used for something else. */
EVLOOP_API int evl_is_closing(const evl_handle_t *handle);

/* Ends a handle: it stops at once, its requests' callbacks get EVL_ECANCELED, then `close_cb`
 * (which may be NULL) runs in the closing phase. A second call does nothing.
 * Lifetime: the handle's memory is yours again inside close_cb. */
EVLOOP_API void evl_close(evl_handle_t *handle, evl_close_cb close_cb);

/* Whether the handle counts for keeping the loop alive. Handles start referenced; both calls are
 * idempotent. */
EVLOOP_API void evl_ref(evl_handle_t *handle);
EVLOOP_API void evl_unref(evl_handle_t *handle);
EVLOOP_API int evl_has_ref(const evl_handle_t *handle);

/* Sizes and names of types, for bindings; (size_t)-1 and NULL for a type that is none.
 * Thread: any. */
EVLOOP_API size_t evl_handle_size(evl_handle_type type);
EVLOOP_API const char *evl_handle_type_name(evl_handle_type type);
EVLOOP_API size_t evl_req_size(evl_req_type type);
EVLOOP_API const char *evl_req_type_name(evl_req_type type);

/* The public fields, for bindings. */
EVLOOP_API evl_handle_type evl_handle_get_type(const evl_handle_t *handle);
EVLOOP_API void *evl_handle_get_data(const evl_handle_t *handle);
EVLOOP_API evl_loop_t *evl_handle_get_loop(const evl_handle_t *handle);
EVLOOP_API void evl_handle_set_data(evl_handle_t *handle, void *data);
EVLOOP_API evl_req_type evl_req_get_type(const evl_req_t *req);
EVLOOP_API void *evl_req_get_data(const evl_req_t *req);
EVLOOP_API void evl_req_set_data(evl_req_t *req, void *data);

/* Prints a line for each (active) handle: [R]eferenced, [A]ctive, [I]nternal, type, address.
 * `loop` may be NULL: the default loop; `stream` too: stderr. */
EVLOOP_API void evl_print_all_handles(evl_loop_t *loop, FILE *stream);
EVLOOP_API void evl_print_active_handles(evl_loop_t *loop, FILE *stream);

/* Reads (when *value is 0) or sets a socket's kernel buffer size in bytes. Linux doubles what is
 * set. Errors: EVL_EINVAL (NULL), EVL_ENOTSUP (no socket handle), EVL_EBADF (no socket yet). */
EVLOOP_API int evl_send_buffer_size(evl_handle_t *handle, int *value);
EVLOOP_API int evl_recv_buffer_size(evl_handle_t *handle, int *value);

/* The descriptor beneath a stream or poll handle. It stays the handle's: look, do not close.
 * Errors: EVL_EINVAL (a handle without one), EVL_EBADF (none yet, or closing). */
EVLOOP_API int evl_fileno(const evl_handle_t *handle, evl_os_fd_t *fd);

/* ==== [SECTION] Tasks ==== */

/* Functions to be called soon, as in Node. Ticks run before microtasks; both are drained before
 * evl_run's first phase and after every callback: all ticks, then all microtasks, again until both
 * are empty. A loop never sleeps while there are some.
 * Errors: EVL_EINVAL (cb is NULL), EVL_ENOMEM. Allocates only to grow. */
EVLOOP_API int evl_next_tick(evl_loop_t *loop, evl_task_cb cb, void *arg);
EVLOOP_API int evl_queue_microtask(evl_loop_t *loop, evl_task_cb cb, void *arg);

/* A function that is called whenever ticks and microtasks have been drained, before the loop goes
 * on: an embedded language drains its own job queue there. NULL: none. */
EVLOOP_API void evl_set_microtask_checkpoint(evl_loop_t *loop, evl_task_cb cb, void *arg);

/* One-shot conveniences, owned by the loop, which they keep alive; `id` may be NULL.
 * Immediates run in the check phase in the order of the calls; one set while they run waits for
 * the next iteration. A timeout runs once in the timers phase `ms` milliseconds from now, an
 * interval again and again (with 0: once an iteration).
 * Errors: EVL_EINVAL (cb is NULL), EVL_ENOMEM. Allocates only to grow. */
EVLOOP_API int evl_set_immediate(evl_loop_t *loop, evl_task_cb cb, void *arg, evl_task_id *id);
EVLOOP_API int evl_set_timeout(evl_loop_t *loop, uint64_t ms, evl_task_cb cb, void *arg,
                               evl_task_id *id);
EVLOOP_API int evl_set_interval(evl_loop_t *loop, uint64_t ms, evl_task_cb cb, void *arg,
                                evl_task_id *id);

/* Takes a task back. Errors: EVL_ENOENT: it has run, was cleared, or never was. */
EVLOOP_API int evl_clear_task(evl_loop_t *loop, evl_task_id id);

/* Runs a function on the loop's thread, in the poll phase: first in, first out for each caller. A
 * post keeps the loop alive until it has run. Errors: EVL_EINVAL (cb is NULL), EVL_ENOMEM.
 * Thread: any. Allocates one small block, freed when the post has run. */
EVLOOP_API int evl_post(evl_loop_t *loop, evl_task_cb cb, void *arg);

/* ==== [SECTION] Timers ==== */

/* Due times count from a fresh clock: read at the first timer start in each callback (outside of
 * callbacks: at the first after evl_loop_init or evl_run) and kept for the rest of it, so that a
 * burst of starts costs one clock read. Timers run in the order of their due times, equal ones in
 * the order of their starts, never early, and at most once a pass: one started with 0 by its own
 * callback waits for the next. A due time is no later than 2^63 ms on the clock; nanoseconds count up
 * to 2^63, too. */
typedef void (*evl_timer_cb)(evl_timer_t *timer);

struct evl_timer_s {
    EVLI_HANDLE_FIELDS
    struct {
        evli_due_t due;
        uint64_t repeat_ns;
        evl_timer_cb cb;
    } priv;
} EVLI_MAY_ALIAS;

/* Makes a timer, stopped. Returns 0. */
EVLOOP_API int evl_timer_init(evl_loop_t *loop, evl_timer_t *timer);

/* Starts, or starts anew: calls `cb` after `timeout`, then every `repeat` unless that is 0, counted
 * from the pass that ran it. Restarting to a later time, as every socket timeout does, is O(1).
 * Errors: EVL_EINVAL (cb is NULL, or the timer is closing), EVL_ENOMEM. */
EVLOOP_API int evl_timer_start(evl_timer_t *timer, evl_timer_cb cb, uint64_t timeout_ms,
                               uint64_t repeat_ms);
EVLOOP_API int evl_timer_start_ns(evl_timer_t *timer, evl_timer_cb cb, uint64_t timeout_ns,
                                  uint64_t repeat_ns);

/* Stops the timer; it may be started again. */
EVLOOP_API int evl_timer_stop(evl_timer_t *timer);

/* Starts a repeating timer anew with its repeat value as the timeout; does nothing to one that
 * does not repeat. Errors: EVL_EINVAL (never started), EVL_ENOMEM. */
EVLOOP_API int evl_timer_again(evl_timer_t *timer);

/* The repeat value in milliseconds. Setting it takes effect when the timer runs or starts next;
 * 0 makes it one-shot. */
EVLOOP_API void evl_timer_set_repeat(evl_timer_t *timer, uint64_t repeat_ms);
EVLOOP_API uint64_t evl_timer_get_repeat(const evl_timer_t *timer);

/* Milliseconds from the loop's time until the timer is due, rounded down; 0 if it is due or stopped. */
EVLOOP_API uint64_t evl_timer_get_due_in(const evl_timer_t *timer);

/* ==== [SECTION] Watchers ==== */

/* Callbacks at fixed places of every iteration, in the order in which they were started: idle (and
 * the loop does not sleep while one is active), prepare right before the poll, check right after. */
typedef void (*evl_idle_cb)(evl_idle_t *idle);
typedef void (*evl_prepare_cb)(evl_prepare_t *prepare);
typedef void (*evl_check_cb)(evl_check_t *check);

struct evl_idle_s {
    EVLI_HANDLE_FIELDS
    struct {
        evli_link_t link;
        evl_idle_cb cb;
    } priv;
} EVLI_MAY_ALIAS;
struct evl_prepare_s {
    EVLI_HANDLE_FIELDS
    struct {
        evli_link_t link;
        evl_prepare_cb cb;
    } priv;
} EVLI_MAY_ALIAS;
struct evl_check_s {
    EVLI_HANDLE_FIELDS
    struct {
        evli_link_t link;
        evl_check_cb cb;
    } priv;
} EVLI_MAY_ALIAS;

/* Make (stopped), start and stop. Starting one that is active changes nothing and returns 0.
 * Errors of start: EVL_EINVAL (cb is NULL, or the handle is closing). */
EVLOOP_API int evl_idle_init(evl_loop_t *loop, evl_idle_t *idle);
EVLOOP_API int evl_idle_start(evl_idle_t *idle, evl_idle_cb cb);
EVLOOP_API int evl_idle_stop(evl_idle_t *idle);
EVLOOP_API int evl_prepare_init(evl_loop_t *loop, evl_prepare_t *prepare);
EVLOOP_API int evl_prepare_start(evl_prepare_t *prepare, evl_prepare_cb cb);
EVLOOP_API int evl_prepare_stop(evl_prepare_t *prepare);
EVLOOP_API int evl_check_init(evl_loop_t *loop, evl_check_t *check);
EVLOOP_API int evl_check_start(evl_check_t *check, evl_check_cb cb);
EVLOOP_API int evl_check_stop(evl_check_t *check);

/* ==== [SECTION] Async ==== */

/* Wakes the loop and calls back on its thread. */
typedef void (*evl_async_cb)(evl_async_t *async);

struct evl_async_s {
    EVLI_HANDLE_FIELDS
    struct {
        evli_node_t node;
        evli_node_t **back; /* what points to the node, once the loop has taken it */
        evl_async_cb cb;
        uint32_t state; /* atomic */
    } priv;
} EVLI_MAY_ALIAS;

/* Makes an async, active from the start: it keeps the loop alive unless unreferenced. `cb` may be
 * NULL: then a send only wakes the loop. Returns 0. */
EVLOOP_API int evl_async_init(evl_loop_t *loop, evl_async_t *async, evl_async_cb cb);

/* Has the callback called in the poll phase, at least once after this call; several sends before
 * it runs become one. What the sender wrote before is visible to the callback. Lock-free, and no
 * system call unless the loop sleeps and is not woken yet.
 * Thread: any, and signal handlers, until the handle's close callback.
 * Errors: EVL_EINVAL (closing). */
EVLOOP_API int evl_async_send(evl_async_t *async);

/* ==== [SECTION] Streams ==== */

#if EVLI_HAVE_STREAMS

/* A stream carries bytes both ways, or accepts other streams. evl_tcp_t is one; a pointer to it may
 * be cast to evl_stream_t. */
typedef void (*evl_alloc_cb)(evl_handle_t *handle, size_t suggested_size, evl_buf_t *buf);
typedef void (*evl_read_cb)(evl_stream_t *stream, ssize_t nread, const evl_buf_t *buf);
typedef void (*evl_write_cb)(evl_write_t *req, int status);
typedef void (*evl_connect_cb)(evl_connect_t *req, int status);
typedef void (*evl_shutdown_cb)(evl_shutdown_t *req, int status);
typedef void (*evl_connection_cb)(evl_stream_t *server, int status);

#define EVLI_STREAM_FIELDS                                                                         \
    size_t write_queue_size; /* bytes accepted by evl_write and not yet handed to the kernel */    \
    struct {                                                                                       \
        evli_io_t io;                                                                              \
        evl_alloc_cb alloc_cb;                                                                     \
        evl_read_cb read_cb;                                                                       \
        evl_connect_t *connect_req;                                                                \
        evl_shutdown_t *shutdown_req;                                                              \
        evl_write_t *queue_tail;       /* a ring: its next is the head */                          \
        uint32_t done;                 /* writes that wait for their callbacks alone */            \
        struct evli_gate_s *gate;      /* a listener's bounds, shared with its connections */      \
        struct evli_stream_ext_s *ext; /* watermarks, timeouts, pumps; NULL: none were set */      \
    } priv;

struct evl_stream_s {
    EVLI_HANDLE_FIELDS
    EVLI_STREAM_FIELDS
} EVLI_MAY_ALIAS;

struct evl_connect_s {
    EVLI_REQ_FIELDS
    evl_connect_cb cb;
    evl_stream_t *handle; /* read-only: the stream that connects */
} EVLI_MAY_ALIAS;

struct evl_shutdown_s {
    EVLI_REQ_FIELDS
    evl_shutdown_cb cb;
    evl_stream_t *handle; /* read-only: the stream that is shut down */
} EVLI_MAY_ALIAS;

struct evl_write_s {
    EVLI_REQ_FIELDS
    evl_write_cb cb;
    evl_stream_t *handle;      /* read-only: the stream that is written to */
    evl_stream_t *send_handle; /* read-only: the handle that travels along, or NULL */
    struct {
        evl_write_t *next;
        evl_buf_t *bufs; /* few, or a block of its own */
        uint32_t nbufs;
        uint32_t index; /* of the first buffer that is not wholly written */
        evl_buf_t few[4];
    } priv;
} EVLI_MAY_ALIAS;

/* Starts accepting connections: `cb` is called for each, and evl_accept in it takes it over.
 * `backlog` is the kernel's queue of connections not yet accepted. When descriptors run out, the
 * clients wait in that queue, the listener tries again after a pause, and if that fails too, `cb`
 * gets EVL_EMFILE or EVL_ENFILE, once until connections come in again. With `cb` NULL the first
 * connection waits for an evl_accept at your leisure.
 * Errors: EVL_EINVAL (no stream that can listen, connecting, closing), EVL_ENOMEM, a bind's
 * EVL_EADDRINUSE, what socket and listen report. */
EVLOOP_API int evl_listen(evl_stream_t *stream, int backlog, evl_connection_cb cb);

/* Takes over the connection that a connection callback announced; one that is not taken is kept,
 * and no further one is accepted until it is. `client` is initialised and has no socket yet.
 * Errors: EVL_EAGAIN (none is waiting), EVL_EINVAL (client is no stream of this loop), EVL_EBUSY
 * (client has a socket). */
EVLOOP_API int evl_accept(evl_stream_t *server, evl_stream_t *client);

/* Starts reading. For each chunk `alloc_cb` gives a buffer (base NULL or len 0: read_cb gets
 * EVL_ENOBUFS) and `read_cb` gets it back with the count that was read; 0 means nothing was there,
 * which is neither error nor end. EVL_EOF: the peer has shut down; other negative values but
 * EVL_ENOBUFS and EVL_ETIMEDOUT are errors; after either reading has stopped. A buffer that alloc_cb
 * gives while it stops the reading does not come back.
 * alloc_cb may be NULL: the loop lends a buffer, valid until read_cb returns.
 * Errors: EVL_EINVAL (read_cb is NULL, closing), EVL_EALREADY (it reads), EVL_ENOTCONN, EVL_ENOMEM
 * (the first lent buffer), what registering with the backend reports. */
EVLOOP_API int evl_read_start(evl_stream_t *stream, evl_alloc_cb alloc_cb, evl_read_cb read_cb);

/* Stops reading: read_cb is not called any more. Always 0. */
EVLOOP_API int evl_read_stop(evl_stream_t *stream);

/* Writes buffers in order; `cb` (which may be NULL) gets 0 when the kernel has taken all of them.
 * When one fails, those behind it fail with the same error and the stream is writable no more.
 * What can be written without waiting is written at once; the callback never comes before return.
 * Lifetime: the bytes must stay until the callback, the array `bufs` need not.
 * Errors: EVL_EINVAL (no buffers, over 1,048,576 of them, or over 2 GiB), EVL_EBADF (no socket),
 * EVL_EPIPE (not writable: not connected, shut down, failed), EVL_ENOBUFS (past the cap of
 * evl_stream_set_watermarks), EVL_ENOMEM. Allocates one block when nbufs > 4. */
EVLOOP_API int evl_write(evl_write_t *req, evl_stream_t *stream, const evl_buf_t bufs[],
                         unsigned int nbufs, evl_write_cb cb);

/* evl_write with a handle to send along. Errors: EVL_EINVAL when send_handle is not NULL and the
 * stream carries no handles; TCP carries none. */
EVLOOP_API int evl_write2(evl_write_t *req, evl_stream_t *stream, const evl_buf_t bufs[],
                          unsigned int nbufs, evl_stream_t *send_handle, evl_write_cb cb);

/* Writes what can be written without waiting (unless the stream is set to block) or queueing. Returns
 * the number of bytes.
 * Errors: those of evl_write, and EVL_EAGAIN: nothing can be written now, or writes are queued. */
EVLOOP_API int evl_try_write(evl_stream_t *stream, const evl_buf_t bufs[], unsigned int nbufs);
EVLOOP_API int evl_try_write2(evl_stream_t *stream, const evl_buf_t bufs[], unsigned int nbufs,
                              evl_stream_t *send_handle);

/* Shuts down the sending side once the queued writes are done. No further write is accepted.
 * Errors: EVL_ENOTCONN (not writable, or shut down already). */
EVLOOP_API int evl_shutdown(evl_shutdown_t *req, evl_stream_t *stream, evl_shutdown_cb cb);

/* Whether the stream is connected for that direction. */
EVLOOP_API int evl_is_readable(const evl_stream_t *stream);
EVLOOP_API int evl_is_writable(const evl_stream_t *stream);

/* Makes writes block the thread until the kernel has taken all (1), or not (0). Reads never block.
 * Errors: EVL_EBADF (no socket), EVL_EINVAL (a listener). */
EVLOOP_API int evl_stream_set_blocking(evl_stream_t *stream, int blocking);

/* The field write_queue_size. */
EVLOOP_API size_t evl_stream_get_write_queue_size(const evl_stream_t *stream);

typedef enum { EVL_FLOW_PAUSE, EVL_FLOW_RESUME } evl_flow_t;
typedef void (*evl_flow_cb)(evl_stream_t *stream, evl_flow_t flow);

/* Watches the bytes in the write queue: `cb` (which may be NULL) gets EVL_FLOW_PAUSE once when a
 * write leaves at least `high` of them, and after that EVL_FLOW_RESUME once when at most `low` are
 * left; with `high` 0 never. A write that would take the queue past `max` is refused with
 * EVL_ENOBUFS; 0: no cap.
 * Errors: EVL_EINVAL unless low <= high, and high <= max where max is not 0; EVL_ENOMEM.
 * Allocates at the first call of a set_ function for the stream. */
EVLOOP_API int evl_stream_set_watermarks(evl_stream_t *stream, size_t low, size_t high, size_t max,
                                         evl_flow_cb cb);

/* Bounds the wait, in milliseconds; 0: no bound. Without progress for that long the operation's
 * own callback gets EVL_ETIMEDOUT: a connect has then failed; reading goes on until stopped, and
 * times out again; writes that are queued fail, all of them, and the stream is writable no more.
 * Errors: EVL_EINVAL (closing), EVL_ENOMEM. */
EVLOOP_API int evl_stream_set_timeouts(evl_stream_t *stream, uint64_t connect_ms, uint64_t read_ms,
                                       uint64_t write_ms);

/* Stops accepting while `max_connections` accepted ones are open, and goes on as they close; 0: no
 * limit. Errors: EVL_EINVAL (does not listen). */
EVLOOP_API int evl_listen_limit(evl_stream_t *server, unsigned max_connections);

typedef void (*evl_pump_cb)(evl_pump_t *req, int status);
struct evl_pump_s {
    EVLI_REQ_FIELDS
    evl_pump_cb cb;
    evl_stream_t *from;   /* read-only */
    evl_stream_t *to;     /* read-only */
    uint64_t transferred; /* read-only: bytes that `to` has taken so far */
    struct {
        evl_write_t write;
        char *rest; /* what `to` did not take at once */
        size_t length;
    } priv;
} EVLI_MAY_ALIAS;

/* Copies from one stream to another until `from` ends, reading only as fast as `to` can write;
 * then cb(req, 0). `to` is left open. cb gets the error of a read or a write that fails, and
 * EVL_ECANCELED when either stream is closed (bytes read by then are still written if `to` lives).
 * Meanwhile `from` must not be read by other means.
 * The cap of evl_stream_set_watermarks does not apply to it: it has one block under way at most.
 * Errors: EVL_EINVAL (from == to, different loops, cb is NULL), EVL_EPIPE (`to` is not writable),
 * EVL_EALREADY (`from` is pumped or read), EVL_EBUSY (another pump writes to `to`), EVL_ENOMEM, those
 * of evl_read_start. Allocates one block of 64 KiB when `to` is slower than `from`. */
EVLOOP_API int evl_pump(evl_pump_t *req, evl_stream_t *from, evl_stream_t *to, evl_pump_cb cb);

/* ==== [SECTION] TCP ==== */

struct evl_tcp_s {
    EVLI_HANDLE_FIELDS
    EVLI_STREAM_FIELDS
} EVLI_MAY_ALIAS;

enum evl_tcp_flags {
    EVL_TCP_IPV6ONLY = 1, /* an IPv6 socket takes no IPv4 connections */
    EVL_TCP_REUSEPORT = 2 /* several sockets may listen on the port; the kernel spreads the load */
};

/* Makes a TCP handle; its socket comes into being when needed, with evl_tcp_init_ex at once for
 * the address family in the lowest 8 bits of `flags` (AF_UNSPEC: when needed).
 * Errors: EVL_EINVAL (unknown family or flags), what socket reports. */
EVLOOP_API int evl_tcp_init(evl_loop_t *loop, evl_tcp_t *tcp);
EVLOOP_API int evl_tcp_init_ex(evl_loop_t *loop, evl_tcp_t *tcp, unsigned int flags);

/* Takes over a socket, connected or listening, and makes it nonblocking.
 * Errors: EVL_EBUSY (the handle has one), EVL_EEXIST (the loop watches it already), EVL_EBADF,
 * EVL_ENOTSOCK. Lifetime: the socket is the handle's, which closes it. */
EVLOOP_API int evl_tcp_open(evl_tcp_t *tcp, evl_os_sock_t sock);

/* TCP_NODELAY: small writes go out at once. Kept for the socket that is yet to come. */
EVLOOP_API int evl_tcp_nodelay(evl_tcp_t *tcp, int enable);

/* Keep-alive probes after `idle` seconds of silence, then every `intvl` seconds (1), until `cnt` of
 * them (10) stay unanswered. Before there is a socket, `enable` is kept and the times are 60, 1, 10.
 * Errors: EVL_EINVAL (a time of 0 while enabling). */
EVLOOP_API int evl_tcp_keepalive(evl_tcp_t *tcp, int enable, unsigned int idle);
EVLOOP_API int evl_tcp_keepalive_ex(evl_tcp_t *tcp, int enable, unsigned int idle,
                                    unsigned int intvl, unsigned int cnt);

/* A Windows setting; 0 and no effect elsewhere. */
EVLOOP_API int evl_tcp_simultaneous_accepts(evl_tcp_t *tcp, int enable);

/* Binds to an address, with SO_REUSEADDR. An address in use is reported by the evl_listen,
 * evl_tcp_connect or evl_tcp_getsockname that follows.
 * Errors: EVL_EINVAL (no IPv4 or IPv6 address, flags that do not go with it, bound already),
 * EVL_ENOTSUP (EVL_TCP_REUSEPORT where the kernel does not spread the load), EVL_EADDRNOTAVAIL,
 * EVL_EACCES, what socket reports. */
EVLOOP_API int evl_tcp_bind(evl_tcp_t *tcp, const struct sockaddr *addr, unsigned int flags);

/* The own and the peer's address. *namelen is the room on entry, the length on return.
 * Errors: EVL_EBADF (no socket), EVL_ENOTCONN, a bind's EVL_EADDRINUSE. */
EVLOOP_API int evl_tcp_getsockname(const evl_tcp_t *tcp, struct sockaddr *name, int *namelen);
EVLOOP_API int evl_tcp_getpeername(const evl_tcp_t *tcp, struct sockaddr *name, int *namelen);

/* Connects. The callback gets 0 or the error, EVL_ECONNREFUSED also on systems that report it at
 * once. Writes may be queued meanwhile.
 * Errors: EVL_EALREADY (connecting already), EVL_EINVAL (no IPv4 or IPv6 address), those of socket
 * and connect that are no matter of the peer's. */
EVLOOP_API int evl_tcp_connect(evl_connect_t *req, evl_tcp_t *tcp, const struct sockaddr *addr,
                               evl_connect_cb cb);

/* evl_close that sends a reset instead of an orderly end.
 * Errors: EVL_EINVAL (a shutdown is under way), EVL_EBADF (no socket). */
EVLOOP_API int evl_tcp_close_reset(evl_tcp_t *tcp, evl_close_cb close_cb);

#endif /* EVLI_HAVE_STREAMS */

enum evl_pipe_flags { EVL_NONBLOCK_PIPE = 0x40 };

/* A pair of connected sockets, or a pipe: close-on-exec, and nonblocking where the flags say
 * EVL_NONBLOCK_PIPE. Thread: any. Lifetime: yours to close or to open as a handle. */
EVLOOP_API int evl_socketpair(int type, int protocol, evl_os_sock_t sockets[2], int flags0,
                              int flags1);
EVLOOP_API int evl_pipe(evl_file fds[2], int read_flags, int write_flags);

/* The system's handle of a file descriptor of the C library, and a descriptor for a handle, which it
 * then owns: on Windows. Elsewhere they are the same thing. Thread: any. */
EVLOOP_API evl_os_fd_t evl_get_osfhandle(int fd);
EVLOOP_API int evl_open_osfhandle(evl_os_fd_t os_fd);

/* ==== [SECTION] Poll ==== */

/* Watches a descriptor that somebody else reads, writes and closes, such as another library's
 * socket. Level-triggered: the callback comes as long as the condition holds. */
enum evl_poll_event {
    EVL_READABLE = 1,
    EVL_WRITABLE = 2,
    EVL_DISCONNECT = 4, /* the peer has shut down its sending side; a hint, not sent everywhere */
    EVL_PRIORITIZED = 8 /* out-of-band data, sysfs interrupts */
};
typedef void (*evl_poll_cb)(evl_poll_t *poll, int status, int events);

struct evl_poll_s {
    EVLI_HANDLE_FIELDS
    struct {
        evli_io_t io;
        evl_poll_cb cb;
    } priv;
} EVLI_MAY_ALIAS;

/* Makes a poll handle for a socket or, except on Windows, any descriptor that can be waited for, and
 * sets that to nonblocking; evl_poll_init takes a descriptor of the C library.
 * Errors: EVL_EEXIST (the loop watches it already), EVL_EBADF, EVL_EPERM (a regular file). */
EVLOOP_API int evl_poll_init(evl_loop_t *loop, evl_poll_t *poll, int fd);
EVLOOP_API int evl_poll_init_socket(evl_loop_t *loop, evl_poll_t *poll, evl_os_sock_t socket);

/* Watches for `events` (EVL_READABLE | …), replacing what was watched for; 0 stops. A status below
 * 0 means that the descriptor failed, say was closed by its owner; the handle has stopped then.
 * Errors: EVL_EINVAL (unknown events, cb is NULL, closing), EVL_EEXIST, EVL_EBADF. */
EVLOOP_API int evl_poll_start(evl_poll_t *poll, int events, evl_poll_cb cb);

/* Stops watching. The descriptor may be closed right after. */
EVLOOP_API int evl_poll_stop(evl_poll_t *poll);

/* ==== [SECTION] Addresses ==== */

/* Numeric addresses to sockaddr and back, no lookup. An IPv6 address may carry a %scope, which
 * evl_ip6_addr looks up among the interfaces and evl_inet_pton passes over.
 * The names write at most `size` bytes. Errors: EVL_EINVAL (no such address), EVL_ENOSPC (no room),
 * EVL_EAFNOSUPPORT (evl_ip_name, evl_inet_: neither IPv4 nor IPv6). Thread: any. */
EVLOOP_API int evl_ip4_addr(const char *ip, int port, struct sockaddr_in *addr);
EVLOOP_API int evl_ip6_addr(const char *ip, int port, struct sockaddr_in6 *addr);
EVLOOP_API int evl_ip4_name(const struct sockaddr_in *src, char *dst, size_t size);
EVLOOP_API int evl_ip6_name(const struct sockaddr_in6 *src, char *dst, size_t size);
EVLOOP_API int evl_ip_name(const struct sockaddr *src, char *dst, size_t size);
EVLOOP_API int evl_inet_ntop(int af, const void *src, char *dst, size_t size);
EVLOOP_API int evl_inet_pton(int af, const char *src, void *dst);

/* ==== [SECTION] Threads ==== */

#if defined(_WIN32)
typedef void *evl_thread_t;
typedef struct {
    void *lock;
    uint32_t owner, depth, recursive;
} evl_mutex_t;
typedef void *evl_cond_t;
typedef struct {
    void *once;
} evl_once_t;
typedef struct {
    unsigned long index;
} evl_key_t;
#define EVL_ONCE_INIT                                                                              \
    { NULL }
#else
typedef pthread_t evl_thread_t;
typedef pthread_mutex_t evl_mutex_t;
typedef pthread_cond_t evl_cond_t;
typedef pthread_once_t evl_once_t;
typedef pthread_key_t evl_key_t;
#define EVL_ONCE_INIT PTHREAD_ONCE_INIT
#endif

typedef struct {
    evl_mutex_t mutex;
    evl_cond_t cond;
    unsigned int readers; /* inside */
    unsigned int writer;  /* 1: inside */
} evl_rwlock_t;

#if defined(_WIN32)
typedef void *evl_sem_t;
#elif defined(__APPLE__)
typedef unsigned int evl_sem_t; /* a Mach port */
#else
typedef sem_t evl_sem_t;
#endif

typedef struct {
    evl_mutex_t mutex;
    evl_cond_t cond;
    unsigned int threshold, arrived, inside, round;
} evl_barrier_t;

typedef void (*evl_thread_cb)(void *arg);
typedef enum {
    EVL_THREAD_NO_FLAGS = 0x00,
    EVL_THREAD_HAS_STACK_SIZE = 0x01
} evl_thread_create_flags;
typedef struct evl_thread_options_s {
    unsigned int flags;
    size_t
        stack_size; /* bytes, with EVL_THREAD_HAS_STACK_SIZE, rounded up; 0: as the main thread's */
} evl_thread_options_t;

#if !defined(EVLOOP_NO_THREADS)

/* Threads. Errors: EVL_EAGAIN (the system has none left), EVL_ENOMEM. Thread: any. */
EVLOOP_API int evl_thread_create(evl_thread_t *thread, evl_thread_cb entry, void *arg);
EVLOOP_API int evl_thread_create_ex(evl_thread_t *thread, const evl_thread_options_t *options,
                                    evl_thread_cb entry, void *arg);
EVLOOP_API int evl_thread_join(evl_thread_t *thread);
EVLOOP_API int evl_thread_detach(evl_thread_t *thread);
EVLOOP_API evl_thread_t evl_thread_self(void);
EVLOOP_API int evl_thread_equal(const evl_thread_t *a, const evl_thread_t *b);

/* Mutual exclusion. try returns EVL_EBUSY when somebody else holds the lock. Thread: any. */
EVLOOP_API int evl_mutex_init(evl_mutex_t *mutex);
EVLOOP_API int evl_mutex_init_recursive(evl_mutex_t *mutex);
EVLOOP_API void evl_mutex_destroy(evl_mutex_t *mutex);
EVLOOP_API void evl_mutex_lock(evl_mutex_t *mutex);
EVLOOP_API int evl_mutex_trylock(evl_mutex_t *mutex);
EVLOOP_API void evl_mutex_unlock(evl_mutex_t *mutex);

/* Many readers or one writer; readers do not wait for waiting writers. Thread: any. */
EVLOOP_API int evl_rwlock_init(evl_rwlock_t *rwlock);
EVLOOP_API void evl_rwlock_destroy(evl_rwlock_t *rwlock);
EVLOOP_API void evl_rwlock_rdlock(evl_rwlock_t *rwlock);
EVLOOP_API int evl_rwlock_tryrdlock(evl_rwlock_t *rwlock);
EVLOOP_API void evl_rwlock_rdunlock(evl_rwlock_t *rwlock);
EVLOOP_API void evl_rwlock_wrlock(evl_rwlock_t *rwlock);
EVLOOP_API int evl_rwlock_trywrlock(evl_rwlock_t *rwlock);
EVLOOP_API void evl_rwlock_wrunlock(evl_rwlock_t *rwlock);

/* Waiting for a condition under a mutex; may wake without cause. timedwait waits `timeout_ns` at
 * most and returns EVL_ETIMEDOUT then. Thread: any. */
EVLOOP_API int evl_cond_init(evl_cond_t *cond);
EVLOOP_API void evl_cond_destroy(evl_cond_t *cond);
EVLOOP_API void evl_cond_signal(evl_cond_t *cond);
EVLOOP_API void evl_cond_broadcast(evl_cond_t *cond);
EVLOOP_API void evl_cond_wait(evl_cond_t *cond, evl_mutex_t *mutex);
EVLOOP_API int evl_cond_timedwait(evl_cond_t *cond, evl_mutex_t *mutex, uint64_t timeout_ns);

/* A counter to wait on. trywait returns EVL_EAGAIN when it is 0. Thread: any; post also from signal
 * handlers. */
EVLOOP_API int evl_sem_init(evl_sem_t *sem, unsigned int value);
EVLOOP_API void evl_sem_destroy(evl_sem_t *sem);
EVLOOP_API void evl_sem_post(evl_sem_t *sem);
EVLOOP_API void evl_sem_wait(evl_sem_t *sem);
EVLOOP_API int evl_sem_trywait(evl_sem_t *sem);

/* Holds `count` threads until all have come; one of them gets a positive result. Thread: any.
 * Errors: EVL_EINVAL (count is 0). */
EVLOOP_API int evl_barrier_init(evl_barrier_t *barrier, unsigned int count);
EVLOOP_API void evl_barrier_destroy(evl_barrier_t *barrier);
EVLOOP_API int evl_barrier_wait(evl_barrier_t *barrier);

/* Once in a process, and a value per thread. Thread: any. */
EVLOOP_API void evl_once(evl_once_t *guard, void (*callback)(void));
EVLOOP_API int evl_key_create(evl_key_t *key);
EVLOOP_API void evl_key_delete(evl_key_t *key);
EVLOOP_API void *evl_key_get(evl_key_t *key);
EVLOOP_API void evl_key_set(evl_key_t *key, void *value);

#endif /* !EVLOOP_NO_THREADS */

/* ==== [SECTION] Histograms ==== */

/* How often values came, most of them nanoseconds, in classes that are at most a sixteenth wide. */
typedef struct evl_histogram_s {
    struct {
        uint64_t count, min, max;
        double mean, spread;   /* the latter: the sum of the squares of the distances from it */
        uint64_t classes[976]; /* 0 to 15 have their own; from there 16 for each power of two */
    } priv;
} evl_histogram_t;

/* Empties a histogram, as is also due before its first use, and adds a value. */
EVLOOP_API void evl_histogram_reset(evl_histogram_t *histogram);
EVLOOP_API void evl_histogram_record(evl_histogram_t *histogram, uint64_t value);

/* How many values there are, and what they are like; 0 when there are none. The percentile is the
 * value that `p` percent of them do not exceed, to a sixteenth. */
EVLOOP_API uint64_t evl_histogram_count(const evl_histogram_t *histogram);
EVLOOP_API uint64_t evl_histogram_min(const evl_histogram_t *histogram);
EVLOOP_API uint64_t evl_histogram_max(const evl_histogram_t *histogram);
EVLOOP_API uint64_t evl_histogram_percentile(const evl_histogram_t *histogram, double p);
EVLOOP_API double evl_histogram_mean(const evl_histogram_t *histogram);
EVLOOP_API double evl_histogram_stddev(const evl_histogram_t *histogram);

/* ==== [SECTION] Worker pool ==== */

/* Threads that do what would block the loop. There is one pool for the process, of 4 threads or
 * EVLOOP_THREADPOOL_SIZE (1 to 1024) of the environment, and there may be pools of your own. Threads
 * start when a pool is first used; no signals are delivered to them. A job of a kind that may take
 * seconds, such as the lookup of a name, gets at most half of them.
 * With EVLOOP_NO_THREADS jobs run on the loop's thread, in the poll phase. */
typedef struct {
    unsigned threads;   /* 0: 4; at most 1024 */
    unsigned max_queue; /* jobs that may wait; 0: no cap */
    size_t stack_size;  /* bytes; 0: as for evl_thread_create */
    const char *name;   /* of the threads, as debuggers show it: 15 bytes are kept; NULL: evloop */
} evl_pool_options_t;

typedef struct {
    unsigned threads, idle;  /* that run; of those, without a job */
    unsigned queued;         /* jobs that wait */
    unsigned running;        /* jobs that are being done */
    uint64_t completed;      /* jobs so far */
    evl_histogram_t wait_ns; /* from being queued, as the callback's clock has it, to being begun */
    evl_histogram_t run_ns;  /* from there to the end */
} evl_pool_stats_t;

struct evl_pool_s {
    void *data; /* yours */
    struct {
        evl_mutex_t mutex;
        evl_sem_t wake;
        evli_node_t *incoming; /* atomic: jobs that no thread has seen */
        evli_link_t queue;     /* jobs, the oldest first */
        evli_link_t slow;      /* … of the kinds that may take long */
        uint32_t queued;       /* jobs in both */
        uint32_t bounded;      /* atomic: jobs that wait, if they are bounded */
        uint32_t sleeping;     /* atomic: threads without a job */
        uint32_t waking;       /* atomic: one of them has been signalled and is not awake yet */
        uint32_t started;      /* atomic: threads that run */
        uint32_t threads, max_queue, slow_running, running, closing;
        uint32_t batches;   /* threads that have claimed more than one job */
        uint32_t lazy;      /* atomic: one awake is enough for now, it wakes others itself */
        uint32_t napping;   /* atomic: a thread is asleep for a moment only */
        uint32_t lingering; /* a thread without a job looks out for one */
        uint64_t mean_64;   /* what a job takes, in 64ths of nanoseconds: a moving mean */
        uint64_t gap_ns;    /* for how long there was nothing to do: another */
        uint64_t ended_ns;  /* when the last job did */
        uint32_t forks;     /* that this process is away from the one that made the pool */
        size_t stack_size;
        char name[16];
        evl_pool_t *next; /* in the list of all */
        struct evli_worker_s *workers;
        uint64_t completed;
        evl_histogram_t *wait_ns, *run_ns;
    } priv;
};

/* Makes a pool; `options` may be NULL. evl_pool_close finishes what is queued and joins the threads;
 * no loop may use the pool then. Thread: any.
 * Errors: EVL_EINVAL (more than 1024 threads), EVL_ENOMEM; of close EVL_EBUSY (a thread of the pool
 * calls it). */
EVLOOP_API int evl_pool_init(evl_pool_t *pool, const evl_pool_options_t *options);
EVLOOP_API int evl_pool_close(evl_pool_t *pool);

/* What the pool has done so far; NULL means the default pool. A thread tells what it has done when it
 * comes for more, so the figures may be a few jobs behind the callbacks. Without threads there are
 * no histograms. Thread: any. */
EVLOOP_API int evl_pool_stats(evl_pool_t *pool, evl_pool_stats_t *out);

/* Has the loop use a pool from now on; NULL: the default one. Several loops may use one pool.
 * Lifetime: the pool must stay until the loop is closed or has another. */
EVLOOP_API int evl_loop_set_pool(evl_loop_t *loop, evl_pool_t *pool);

typedef void (*evl_work_cb)(evl_work_t *req);
typedef void (*evl_after_work_cb)(evl_work_t *req, int status);
struct evl_work_s {
    EVLI_REQ_FIELDS
    evl_loop_t *loop; /* read-only */
    evl_work_cb work_cb;
    evl_after_work_cb after_work_cb;
    struct {
        evli_job_t job;
    } priv;
} EVLI_MAY_ALIAS;

/* Has `work_cb` called on a thread of the pool and then `after_work_cb` (which may be NULL) on the
 * loop's, in the poll phase. What work_cb wrote is visible there. When work_cb forks, its child must
 * not return from it.
 * Errors: EVL_EINVAL (work_cb is NULL), EVL_ENOBUFS (the pool's queue is full), EVL_EAGAIN (no thread
 * could be started), EVL_ENOMEM. Allocates nothing. */
EVLOOP_API int evl_queue_work(evl_loop_t *loop, evl_work_t *req, evl_work_cb work_cb,
                              evl_after_work_cb after_work_cb);

/* Takes back a request that waits for a thread: its callback gets EVL_ECANCELED in the next poll
 * phase. Errors: EVL_EBUSY (it runs, or has), EVL_EINVAL (not a request of a pool). */
EVLOOP_API int evl_cancel(evl_req_t *req);

typedef void (*evl_random_cb)(evl_random_t *req, int status, void *buf, size_t buflen);
struct evl_random_s {
    EVLI_REQ_FIELDS
    evl_loop_t *loop; /* read-only */
    int status;
    void *buf;
    size_t buflen;
    evl_random_cb cb;
    struct {
        evli_job_t job;
    } priv;
} EVLI_MAY_ALIAS;

/* Fills a buffer with random bytes of the system, fit for keys. With `cb` NULL at once, and then loop
 * and req may be NULL and any thread may call. Errors: EVL_EINVAL (flags are not 0), EVL_E2BIG (more
 * than 2 GiB), those of evl_queue_work, what the system reports. */
EVLOOP_API int evl_random(evl_loop_t *loop, evl_random_t *req, void *buf, size_t buflen,
                          unsigned flags, evl_random_cb cb);

/* ==== [SECTION] Files ==== */

/* A file is a descriptor, on Windows one of the C library's. Paths are UTF-8 there, and may be longer
 * than 260 characters. */

/* Flags of evl_fs_open. Those that the system does not have are 0. */
#define EVL_FS_O_RDONLY O_RDONLY
#define EVL_FS_O_WRONLY O_WRONLY
#define EVL_FS_O_RDWR   O_RDWR
#define EVL_FS_O_APPEND O_APPEND
#define EVL_FS_O_CREAT  O_CREAT
#define EVL_FS_O_EXCL   O_EXCL
#define EVL_FS_O_TRUNC  O_TRUNC
#if defined(_WIN32)
#define EVL_FS_O_DIRECT      0x02000000 /* past the cache */
#define EVL_FS_O_DIRECTORY   0
#define EVL_FS_O_DSYNC       0x04000000
#define EVL_FS_O_EXLOCK      0x10000000 /* nobody else may open it */
#define EVL_FS_O_FILEMAP     0x20000000 /* accepted: reads and writes do the same without */
#define EVL_FS_O_NOATIME     0
#define EVL_FS_O_NOCTTY      0
#define EVL_FS_O_NOFOLLOW    0
#define EVL_FS_O_NONBLOCK    0
#define EVL_FS_O_RANDOM      0x0010
#define EVL_FS_O_SEQUENTIAL  0x0020
#define EVL_FS_O_SHORT_LIVED 0x1000
#define EVL_FS_O_SYMLINK     0
#define EVL_FS_O_SYNC        0x08000000
#define EVL_FS_O_TEMPORARY   0x0040 /* removed when it is closed */
#else
#if defined(O_DIRECT)
#define EVL_FS_O_DIRECT O_DIRECT
#elif defined(__O_DIRECT)
#define EVL_FS_O_DIRECT __O_DIRECT
#else
#define EVL_FS_O_DIRECT 0
#endif
#if defined(O_DIRECTORY)
#define EVL_FS_O_DIRECTORY O_DIRECTORY
#elif defined(__O_DIRECTORY)
#define EVL_FS_O_DIRECTORY __O_DIRECTORY
#else
#define EVL_FS_O_DIRECTORY 0
#endif
#if defined(O_DSYNC)
#define EVL_FS_O_DSYNC O_DSYNC
#elif defined(__O_DSYNC)
#define EVL_FS_O_DSYNC __O_DSYNC
#else
#define EVL_FS_O_DSYNC 0
#endif
#if defined(O_EXLOCK)
#define EVL_FS_O_EXLOCK O_EXLOCK
#else
#define EVL_FS_O_EXLOCK 0
#endif
#if defined(O_NOATIME)
#define EVL_FS_O_NOATIME O_NOATIME
#elif defined(__O_NOATIME)
#define EVL_FS_O_NOATIME __O_NOATIME
#else
#define EVL_FS_O_NOATIME 0
#endif
#if defined(O_NOFOLLOW)
#define EVL_FS_O_NOFOLLOW O_NOFOLLOW
#elif defined(__O_NOFOLLOW)
#define EVL_FS_O_NOFOLLOW __O_NOFOLLOW
#else
#define EVL_FS_O_NOFOLLOW 0
#endif
#if defined(O_SYMLINK)
#define EVL_FS_O_SYMLINK O_SYMLINK
#else
#define EVL_FS_O_SYMLINK 0
#endif
#define EVL_FS_O_NOCTTY      O_NOCTTY
#define EVL_FS_O_NONBLOCK    O_NONBLOCK
#define EVL_FS_O_SYNC        O_SYNC
#define EVL_FS_O_FILEMAP     0
#define EVL_FS_O_RANDOM      0
#define EVL_FS_O_SEQUENTIAL  0
#define EVL_FS_O_SHORT_LIVED 0
#define EVL_FS_O_TEMPORARY   0
#endif

/* Flags of evl_fs_copyfile. */
#define EVL_FS_COPYFILE_EXCL          0x0001 /* the target must not exist */
#define EVL_FS_COPYFILE_FICLONE       0x0002 /* share the blocks where the file system can */
#define EVL_FS_COPYFILE_FICLONE_FORCE 0x0004 /* … and fail where it cannot */

/* Flags of evl_fs_symlink, which only Windows heeds. */
#define EVL_FS_SYMLINK_DIR      0x0001 /* it leads to a directory */
#define EVL_FS_SYMLINK_JUNCTION 0x0002 /* a junction, which needs no privilege */

/* Times of evl_fs_utime and its kin: now, and as it is. */
#define EVL_FS_UTIME_NOW  (INFINITY)
#define EVL_FS_UTIME_OMIT (NAN)

typedef enum {
    EVL_FS_UNKNOWN = -1,
    EVL_FS_CUSTOM,
    EVL_FS_OPEN,
    EVL_FS_CLOSE,
    EVL_FS_READ,
    EVL_FS_WRITE,
    EVL_FS_SENDFILE,
    EVL_FS_STAT,
    EVL_FS_LSTAT,
    EVL_FS_FSTAT,
    EVL_FS_FTRUNCATE,
    EVL_FS_UTIME,
    EVL_FS_FUTIME,
    EVL_FS_ACCESS,
    EVL_FS_CHMOD,
    EVL_FS_FCHMOD,
    EVL_FS_FSYNC,
    EVL_FS_FDATASYNC,
    EVL_FS_UNLINK,
    EVL_FS_RMDIR,
    EVL_FS_MKDIR,
    EVL_FS_MKDTEMP,
    EVL_FS_RENAME,
    EVL_FS_SCANDIR,
    EVL_FS_LINK,
    EVL_FS_SYMLINK,
    EVL_FS_READLINK,
    EVL_FS_CHOWN,
    EVL_FS_FCHOWN,
    EVL_FS_REALPATH,
    EVL_FS_COPYFILE,
    EVL_FS_LCHOWN,
    EVL_FS_OPENDIR,
    EVL_FS_READDIR,
    EVL_FS_CLOSEDIR,
    EVL_FS_STATFS,
    EVL_FS_MKSTEMP,
    EVL_FS_LUTIME
} evl_fs_type;

typedef enum {
    EVL_DIRENT_UNKNOWN, /* the file system does not say: stat tells */
    EVL_DIRENT_FILE,
    EVL_DIRENT_DIR,
    EVL_DIRENT_LINK,
    EVL_DIRENT_FIFO,
    EVL_DIRENT_SOCKET,
    EVL_DIRENT_CHAR,
    EVL_DIRENT_BLOCK
} evl_dirent_type_t;

struct evl_dirent_s {
    const char *name;
    evl_dirent_type_t type;
};

typedef struct {
    long tv_sec;
    long tv_nsec;
} evl_timespec_t;

/* What stat tells, with the system's meanings. Where there is no time of birth, it is that of the last
 * change. On Windows st_mode holds the type, and for all whether the owner may write; times come in
 * steps of 100 ns. */
typedef struct {
    uint64_t st_dev;
    uint64_t st_mode;
    uint64_t st_nlink;
    uint64_t st_uid;
    uint64_t st_gid;
    uint64_t st_rdev;
    uint64_t st_ino;
    uint64_t st_size;
    uint64_t st_blksize;
    uint64_t st_blocks;
    uint64_t st_flags; /* macOS and the BSDs, like st_gen; else 0 */
    uint64_t st_gen;
    evl_timespec_t st_atim;
    evl_timespec_t st_mtim;
    evl_timespec_t st_ctim;
    evl_timespec_t st_birthtim;
} evl_stat_t;

struct evl_statfs_s {
    uint64_t f_type;
    uint64_t f_bsize;
    uint64_t f_blocks;
    uint64_t f_bfree;
    uint64_t f_bavail;
    uint64_t f_files;
    uint64_t f_ffree;
    uint64_t f_frsize;
    uint64_t f_spare[3];
};

/* A directory that is being read: from evl_fs_opendir to evl_fs_closedir. */
struct evl_dir_s {
    evl_dirent_t *dirents; /* yours to set: where evl_fs_readdir puts what it reads */
    size_t nentries;       /* … and for how many there is room */
    void *reserved[4];
    struct {
        struct evli_dir_s *dir;
    } priv;
};

typedef void (*evl_fs_cb)(evl_fs_t *req);
struct evl_fs_s {
    EVLI_REQ_FIELDS
    evl_fs_type fs_type; /* read-only, like all of these */
    evl_loop_t *loop;
    evl_fs_cb cb;
    ssize_t result;   /* what the call gives: >= 0, or an EVL_E… code */
    void *ptr;        /* … and more of it: see there */
    const char *path; /* as given; of mkdtemp and mkstemp the one that was made */
    evl_stat_t statbuf;
    struct {
        evli_job_t job;
        const char *new_path;
        void *block; /* with the paths or the buffers that the request keeps, when they are long */
        evl_file file;
        evl_file out; /* of sendfile */
        int flags;
        int mode;
        uint32_t nbufs;
        uint32_t next; /* of scandir: the entry that comes next */
        union {
            struct {
                int64_t offset;
                size_t length;
            } span;
            int64_t times_us[2];
            struct {
                evl_uid_t uid;
                evl_gid_t gid;
            } owner;
        } args;
        union {
            evl_buf_t bufs[4];
            char paths[64];
        } brief;
    } priv;
} EVLI_MAY_ALIAS;

#if !defined(EVLOOP_NO_FS)

/* All of these run on a thread of the loop's pool and then call `cb`, which finds the outcome in
 * req->result: 0 or a count, or an EVL_E… code, EVL_ECANCELED after evl_cancel. With `cb` NULL they do
 * it at once and return the result; loop may be NULL then, and any thread may call.
 * In the end, from the callback on, evl_fs_req_cleanup frees what the request holds.
 *
 * Lifetime: the arguments need not outlive the call, but for the memory that buffers lead to, and a
 * directory. Allocates: when the paths take more than 64 bytes with their ends or buffers are more than
 * 4, what it returns in req->ptr, and 64 KiB for a copy that the system does not make itself.
 * Errors at once: EVL_EINVAL (a pointer is missing, no buffers, flags that do not exist), EVL_ENOMEM,
 * those of evl_queue_work; then req is as evl_fs_req_cleanup leaves it. As result what the system
 * reports. */

/* Opens a file, close-on-exec. On Windows others may rename, delete and open it meanwhile. The result
 * is the file. */
EVLOOP_API int evl_fs_open(evl_loop_t *loop, evl_fs_t *req, const char *path, int flags, int mode,
                           evl_fs_cb cb);
EVLOOP_API int evl_fs_close(evl_loop_t *loop, evl_fs_t *req, evl_file file, evl_fs_cb cb);

/* Reads into, or writes from, some buffers: at an offset, or where the file is (-1). The result is the
 * number of bytes; of a read it may be less than asked for, and 0 is the end of the file. A write is
 * less only when an error came after a part. With an offset the file's own position stays. */
EVLOOP_API int evl_fs_read(evl_loop_t *loop, evl_fs_t *req, evl_file file, const evl_buf_t bufs[],
                           unsigned int nbufs, int64_t offset, evl_fs_cb cb);
EVLOOP_API int evl_fs_write(evl_loop_t *loop, evl_fs_t *req, evl_file file, const evl_buf_t bufs[],
                            unsigned int nbufs, int64_t offset, evl_fs_cb cb);

/* Copies from one file to another, or to a socket: the result is the number of bytes, which may be
 * less than `length`. `in_offset` -1 means where the file is. A socket that takes nothing now gives
 * EVL_EAGAIN. */
EVLOOP_API int evl_fs_sendfile(evl_loop_t *loop, evl_fs_t *req, evl_file out_fd, evl_file in_fd,
                               int64_t in_offset, size_t length, evl_fs_cb cb);

/* Copies a file with its mode: EVL_FS_COPYFILE_…. A target that there was is replaced; one that could
 * not be finished is removed. */
EVLOOP_API int evl_fs_copyfile(evl_loop_t *loop, evl_fs_t *req, const char *path,
                               const char *new_path, int flags, evl_fs_cb cb);

/* Writes what the system holds back to the disk, fdatasync without what is not needed to read it. */
EVLOOP_API int evl_fs_fsync(evl_loop_t *loop, evl_fs_t *req, evl_file file, evl_fs_cb cb);
EVLOOP_API int evl_fs_fdatasync(evl_loop_t *loop, evl_fs_t *req, evl_file file, evl_fs_cb cb);
EVLOOP_API int evl_fs_ftruncate(evl_loop_t *loop, evl_fs_t *req, evl_file file, int64_t offset,
                                evl_fs_cb cb);

/* What there is to know of a file, in req->statbuf, where req->ptr leads as well; lstat of a link
 * itself. */
EVLOOP_API int evl_fs_stat(evl_loop_t *loop, evl_fs_t *req, const char *path, evl_fs_cb cb);
EVLOOP_API int evl_fs_lstat(evl_loop_t *loop, evl_fs_t *req, const char *path, evl_fs_cb cb);
EVLOOP_API int evl_fs_fstat(evl_loop_t *loop, evl_fs_t *req, evl_file file, evl_fs_cb cb);

/* … and of the file system beneath a path: req->ptr is an evl_statfs_t. What a system does not say is
 * 0. */
EVLOOP_API int evl_fs_statfs(evl_loop_t *loop, evl_fs_t *req, const char *path, evl_fs_cb cb);

/* Whether the process may read, write or execute: R_OK, W_OK, X_OK (4, 2, 1), or F_OK (0) for whether
 * it exists. */
EVLOOP_API int evl_fs_access(evl_loop_t *loop, evl_fs_t *req, const char *path, int mode,
                             evl_fs_cb cb);

/* Sets the mode, of which Windows knows the owner's right to write, alone. */
EVLOOP_API int evl_fs_chmod(evl_loop_t *loop, evl_fs_t *req, const char *path, int mode,
                            evl_fs_cb cb);
EVLOOP_API int evl_fs_fchmod(evl_loop_t *loop, evl_fs_t *req, evl_file file, int mode,
                             evl_fs_cb cb);

/* Sets owner and group; -1 leaves one as it is; lchown that of a link itself. Does nothing on Windows,
 * where files have no such numbers. */
EVLOOP_API int evl_fs_chown(evl_loop_t *loop, evl_fs_t *req, const char *path, evl_uid_t uid,
                            evl_gid_t gid, evl_fs_cb cb);
EVLOOP_API int evl_fs_fchown(evl_loop_t *loop, evl_fs_t *req, evl_file file, evl_uid_t uid,
                             evl_gid_t gid, evl_fs_cb cb);
EVLOOP_API int evl_fs_lchown(evl_loop_t *loop, evl_fs_t *req, const char *path, evl_uid_t uid,
                             evl_gid_t gid, evl_fs_cb cb);

/* Sets the times of access and change, in seconds since 1970, to the microsecond, or
 * EVL_FS_UTIME_NOW, EVL_FS_UTIME_OMIT; lutime those of a link itself. */
EVLOOP_API int evl_fs_utime(evl_loop_t *loop, evl_fs_t *req, const char *path, double atime,
                            double mtime, evl_fs_cb cb);
EVLOOP_API int evl_fs_futime(evl_loop_t *loop, evl_fs_t *req, evl_file file, double atime,
                             double mtime, evl_fs_cb cb);
EVLOOP_API int evl_fs_lutime(evl_loop_t *loop, evl_fs_t *req, const char *path, double atime,
                             double mtime, evl_fs_cb cb);

/* Names. A rename replaces what has the new name. Of a symlink `path` is what it is to lead to, and
 * EVL_FS_SYMLINK_… may be given. */
EVLOOP_API int evl_fs_unlink(evl_loop_t *loop, evl_fs_t *req, const char *path, evl_fs_cb cb);
EVLOOP_API int evl_fs_rename(evl_loop_t *loop, evl_fs_t *req, const char *path,
                             const char *new_path, evl_fs_cb cb);
EVLOOP_API int evl_fs_link(evl_loop_t *loop, evl_fs_t *req, const char *path, const char *new_path,
                           evl_fs_cb cb);
EVLOOP_API int evl_fs_symlink(evl_loop_t *loop, evl_fs_t *req, const char *path,
                              const char *new_path, int flags, evl_fs_cb cb);

/* Where a link leads, and the path without links and dots: text in req->ptr. */
EVLOOP_API int evl_fs_readlink(evl_loop_t *loop, evl_fs_t *req, const char *path, evl_fs_cb cb);
EVLOOP_API int evl_fs_realpath(evl_loop_t *loop, evl_fs_t *req, const char *path, evl_fs_cb cb);

/* Directories. `tpl` ends in XXXXXX, which becomes something that is in no name yet: req->path. The
 * result of mkstemp is the file, opened for reading and writing. */
EVLOOP_API int evl_fs_mkdir(evl_loop_t *loop, evl_fs_t *req, const char *path, int mode,
                            evl_fs_cb cb);
EVLOOP_API int evl_fs_rmdir(evl_loop_t *loop, evl_fs_t *req, const char *path, evl_fs_cb cb);
EVLOOP_API int evl_fs_mkdtemp(evl_loop_t *loop, evl_fs_t *req, const char *tpl, evl_fs_cb cb);
EVLOOP_API int evl_fs_mkstemp(evl_loop_t *loop, evl_fs_t *req, const char *tpl, evl_fs_cb cb);

/* Reads a whole directory, without `.` and `..`: the result is the number of entries, which
 * evl_fs_scandir_next then gives in the order of their bytes, until it returns EVL_EOF. Flags are not
 * used. Lifetime: of the names, until evl_fs_req_cleanup. */
EVLOOP_API int evl_fs_scandir(evl_loop_t *loop, evl_fs_t *req, const char *path, int flags,
                              evl_fs_cb cb);
EVLOOP_API int evl_fs_scandir_next(evl_fs_t *req, evl_dirent_t *ent);

/* Reads a directory piece by piece, in the system's order. opendir gives an evl_dir_t as req->ptr,
 * which closedir frees; readdir as many entries as are there and have room in dir->dirents, and 0 at
 * the end. One request at a time may use a directory.
 * Lifetime: of the names, until evl_fs_req_cleanup of the request that read them. */
EVLOOP_API int evl_fs_opendir(evl_loop_t *loop, evl_fs_t *req, const char *path, evl_fs_cb cb);
EVLOOP_API int evl_fs_readdir(evl_loop_t *loop, evl_fs_t *req, evl_dir_t *dir, evl_fs_cb cb);
EVLOOP_API int evl_fs_closedir(evl_loop_t *loop, evl_fs_t *req, evl_dir_t *dir, evl_fs_cb cb);

/* Frees what a request holds; not while it is under way. Again, or of one that never started but was
 * zeroed, it does nothing. Thread: any. */
EVLOOP_API void evl_fs_req_cleanup(evl_fs_t *req);

/* The fields of a request. The system error is errno, on Windows GetLastError's. */
EVLOOP_API evl_fs_type evl_fs_get_type(const evl_fs_t *req);
EVLOOP_API ssize_t evl_fs_get_result(const evl_fs_t *req);
EVLOOP_API int evl_fs_get_system_error(const evl_fs_t *req);
EVLOOP_API void *evl_fs_get_ptr(const evl_fs_t *req);
EVLOOP_API const char *evl_fs_get_path(const evl_fs_t *req);
EVLOOP_API evl_stat_t *evl_fs_get_statbuf(evl_fs_t *req);

/* What a file is: EVL_FILE, EVL_TCP, EVL_UDP, EVL_NAMED_PIPE, EVL_TTY or EVL_UNKNOWN_HANDLE. */
EVLOOP_API evl_handle_type evl_guess_handle(evl_file file);

#endif /* !EVLOOP_NO_FS */

/* ==== [SECTION] Name lookup ==== */

typedef void (*evl_getaddrinfo_cb)(evl_getaddrinfo_t *req, int status, struct addrinfo *res);
typedef void (*evl_getnameinfo_cb)(evl_getnameinfo_t *req, int status, const char *hostname,
                                   const char *service);

struct evl_getaddrinfo_s {
    EVLI_REQ_FIELDS
    evl_loop_t *loop;          /* read-only */
    struct addrinfo *addrinfo; /* read-only: the result, the caller's to free */
    struct {
        evli_job_t job;
        evl_getaddrinfo_cb cb;
        char *host, *service;   /* copies, in one block that starts with the hints */
        struct addrinfo *hints; /* NULL: none */
        void *block;
        int result;
    } priv;
} EVLI_MAY_ALIAS;

struct evl_getnameinfo_s {
    EVLI_REQ_FIELDS
    evl_loop_t *loop; /* read-only */
    char host[1025];  /* read-only: the results, "" unless the status is 0 */
    char service[32];
    struct {
        evli_job_t job;
        evl_getnameinfo_cb cb;
        uint64_t addr[16]; /* a copy of the address */
        int flags;
        int result;
    } priv;
} EVLI_MAY_ALIAS;

#if !defined(EVLOOP_NO_DNS)

/* Looks up a host name, a service, or both, as getaddrinfo does. Names that are not ASCII are UTF-8,
 * and looked up in their IDNA form. `hints` and one of the two may be NULL. With `cb` NULL it waits
 * for the result, which is then in req->addrinfo; loop may be NULL then, and any thread may call.
 * Lifetime: the arguments need not outlive the call; the result is freed by evl_freeaddrinfo.
 * Errors: EVL_EINVAL (both names are NULL, or one is no UTF-8), EVL_ENAMETOOLONG (a label over 63
 * bytes, a name over 253), EVL_ENOMEM, those of evl_queue_work; as status an EVL_EAI_… code,
 * EVL_EAI_CANCELED after evl_cancel. */
EVLOOP_API int evl_getaddrinfo(evl_loop_t *loop, evl_getaddrinfo_t *req, evl_getaddrinfo_cb cb,
                               const char *node, const char *service, const struct addrinfo *hints);

/* Frees a result; NULL is fine. Thread: any. */
EVLOOP_API void evl_freeaddrinfo(struct addrinfo *ai);

/* Looks up the names of an address, as getnameinfo does with those flags (NI_…). With `cb` NULL it
 * waits for the result, which is then in req->host and req->service.
 * Errors: EVL_EINVAL (neither IPv4 nor IPv6), those of evl_queue_work; as status an EVL_EAI_… code. */
EVLOOP_API int evl_getnameinfo(evl_loop_t *loop, evl_getnameinfo_t *req, evl_getnameinfo_cb cb,
                               const struct sockaddr *addr, int flags);

#endif /* !EVLOOP_NO_DNS */

#if EVLI_HAVE_STREAMS

/* Room for a handle, or a request, of whichever type. */
union evl_any_handle {
    evl_handle_t handle;
    evl_async_t async;
    evl_check_t check;
    evl_idle_t idle;
    evl_poll_t poll;
    evl_prepare_t prepare;
    evl_stream_t stream;
    evl_tcp_t tcp;
    evl_timer_t timer;
};
union evl_any_req {
    evl_req_t req;
    evl_connect_t connect;
    evl_fs_t fs;
    evl_getaddrinfo_t getaddrinfo;
    evl_getnameinfo_t getnameinfo;
    evl_pump_t pump;
    evl_random_t random;
    evl_shutdown_t shutdown;
    evl_work_t work;
    evl_write_t write;
};

#endif /* EVLI_HAVE_STREAMS */

#ifdef __cplusplus
} /* extern "C" */
#endif

/* ================================================================================================
 *
 *   The interface ends here. If you only use the library, you can stop reading.
 *
 * ============================================================================================== */

#endif /* EVLOOP_H */

#if (defined(EVLOOP_IMPLEMENTATION) || defined(EVLOOP_STATIC)) && !defined(EVLOOP_IMPLEMENTED)
#define EVLOOP_IMPLEMENTED

/* ==== [SECTION] Platform ==== */

/* What the system and the compiler have, as 0 or 1. Beyond this section `#if` never stands inside a
 * function: it encloses whole ones. */
#if defined(__APPLE__) || defined(__FreeBSD__) || defined(__OpenBSD__) || defined(__NetBSD__) ||   \
    defined(__DragonFly__) || defined(EVLOOP_USE_KQUEUE)
#define EVLI_HAVE_KQUEUE 1
#else
#define EVLI_HAVE_KQUEUE 0
#endif

#if defined(__linux__)
#define EVLI_HAVE_EPOLL   1
#define EVLI_HAVE_ACCEPT4 1 /* and pipe2, SOCK_CLOEXEC, SOCK_NONBLOCK */
#define EVLI_HAVE_PPOLL   1
#elif defined(__FreeBSD__) || defined(__OpenBSD__) || defined(__NetBSD__) || defined(__DragonFly__)
#define EVLI_HAVE_EPOLL   0
#define EVLI_HAVE_ACCEPT4 1
#define EVLI_HAVE_PPOLL   0 /* some have it, under three names */
#else
#define EVLI_HAVE_EPOLL   0
#define EVLI_HAVE_ACCEPT4 0
#define EVLI_HAVE_PPOLL   0
#endif

#if defined(_WIN32)
#define EVLI_HAVE_NAPS 0 /* Sleep() counts in ticks of up to 15 ms */
#else
#define EVLI_HAVE_NAPS 1
#endif

#define EVLI_OWN_ATOMICS     0
#define EVLI_GNU_ATOMICS     1
#define EVLI_MSVC_ATOMICS    2
#define EVLI_X86_ASM_ATOMICS 3
#if defined(EVLOOP_ATOMIC_CAS_PTR)
#define EVLI_ATOMICS EVLI_OWN_ATOMICS
#elif defined(__GNUC__) && !defined(__TINYC__)
#define EVLI_ATOMICS EVLI_GNU_ATOMICS
#elif defined(_MSC_VER)
#define EVLI_ATOMICS EVLI_MSVC_ATOMICS
#elif defined(__TINYC__) && (defined(__x86_64__) || defined(__i386__))
#define EVLI_ATOMICS EVLI_X86_ASM_ATOMICS
#else
#error                                                                                             \
    "evloop.h knows no atomics of this compiler: define EVLOOP_ATOMIC_LOAD and its kin as the section Atomics says"
#endif

#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#if defined(_MSC_VER) && defined(SOCKET_ERROR) && !defined(_WINSOCK2API_)
#error                                                                                             \
    "evloop.h: windows.h came first and brought the old Winsock: include evloop.h first, or define WIN32_LEAN_AND_MEAN"
#endif
#if defined(_WIN32)
#include <winsock2.h>
#include <ws2tcpip.h>
#include <mstcpip.h>
#include <windows.h>
#include <winioctl.h>
#include <fcntl.h>
#include <io.h>
#include <process.h>
#if defined(_MSC_VER)
#include <intrin.h>
#pragma comment(lib, "ws2_32")
#pragma warning(push)
#pragma warning(disable : 4127) /* a condition is constant */
#pragma warning(disable : 4505) /* nobody calls a function */
#pragma warning(disable : 4996) /* getenv is not safe with threads that set what it reads */
#endif
#else
#include <arpa/inet.h>
#include <dirent.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>
#endif
#if EVLI_HAVE_EPOLL
#include <sys/epoll.h>
#include <sys/eventfd.h>
#endif
#if defined(__linux__)
#include <sys/sendfile.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#elif defined(__NetBSD__)
#include <sys/statvfs.h>
#elif !defined(_WIN32)
#include <sys/mount.h>
#endif
#if EVLI_HAVE_KQUEUE
#include <sys/event.h>
#endif
#if defined(__NetBSD__) || defined(__DragonFly__)
#include <sys/param.h> /* the system's version */
#endif
#if defined(__APPLE__)
#include <copyfile.h>
#include <mach/mach.h>
#include <sys/random.h>
#endif
#if defined(__FreeBSD__) || defined(__OpenBSD__)
#include <pthread_np.h>
#endif

#if defined(__GLIBC__) && !defined(__USE_GNU)
#error                                                                                             \
    "evloop.h: a system header came first without _GNU_SOURCE: include evloop.h first, or compile with -D_GNU_SOURCE"
#endif

#if !defined(_WIN32)

/* A write to a closed peer must not raise SIGPIPE: a flag of each call, or an option of the socket. */
#if defined(MSG_NOSIGNAL) && !defined(__APPLE__) /* whose older kernels overlook the flag */
#define EVLI_HAVE_MSG_NOSIGNAL 1
#define EVLI_MSG_NOSIGNAL      MSG_NOSIGNAL
#else
#define EVLI_HAVE_MSG_NOSIGNAL 0
#define EVLI_MSG_NOSIGNAL      0
#endif

#if defined(__GLIBC__)
typedef size_t evli_iovlen_t; /* of msghdr.msg_iovlen: POSIX says int */
#elif defined(__OpenBSD__)
typedef unsigned int evli_iovlen_t;
#else
typedef int evli_iovlen_t;
#endif

/* Where a file offset may have 32 bits only, there is a second set of calls. */
#if defined(__GLIBC__)
#define EVLI_LARGE(name) name##64
typedef off64_t evli_off_t;
#else
#define EVLI_LARGE(name) name
typedef off_t evli_off_t;
#endif

#if defined(__APPLE__) /* has preadv since macOS 11 only */
#define EVLI_HAVE_PREADV 0
#else
#define EVLI_HAVE_PREADV 1
#endif

#if defined(__linux__) && defined(STATX_BTIME)
#define EVLI_HAVE_STATX 1
#else
#define EVLI_HAVE_STATX 0
#endif

#if defined(__NetBSD__)
#define EVLI_STATFS statvfs
#else
#define EVLI_STATFS EVLI_LARGE(statfs)
#endif

#if defined(__linux__)
#define EVLI_FICLONE _IOW(0x94, 9, int)
#endif

#if defined(POLLRDHUP)
#define EVLI_POLLRDHUP POLLRDHUP
#else
#define EVLI_POLLRDHUP 0
#endif

#if EVLI_HAVE_EPOLL && defined(SYS_epoll_pwait2)
#define EVLI_SYS_EPOLL_PWAIT2 SYS_epoll_pwait2
#elif EVLI_HAVE_EPOLL && !defined(__alpha__)
#define EVLI_SYS_EPOLL_PWAIT2 441 /* since 5.11; newer system calls have one number everywhere */
#elif EVLI_HAVE_EPOLL
#define EVLI_SYS_EPOLL_PWAIT2 551
#endif

#endif /* !_WIN32 */

#if defined(_WIN32)
typedef unsigned long evli_len_t; /* of evl_buf_t.len */
#else
typedef size_t evli_len_t;
#endif

#if defined(IOV_MAX)
#define EVLI_IOV_MAX IOV_MAX
#else
#define EVLI_IOV_MAX 1024
#endif

#if defined(_WIN32)
#define EVLI_FILE_IOV_MAX UINT32_MAX /* files take one buffer after the other there */
#else
#define EVLI_FILE_IOV_MAX EVLI_IOV_MAX
#endif

#if defined(__GNUC__) && !defined(__TINYC__)
#define EVLI_LIKELY(condition) __builtin_expect(!!(condition), 1)
#else
#define EVLI_LIKELY(condition) (condition)
#endif

/* A function of a layer that is complete in itself: when parts are left out, nobody may call it. */
#if defined(__GNUC__) || defined(__TINYC__)
#define EVLI_SPARE __attribute__((unused)) static
#else
#define EVLI_SPARE static
#endif

#define EVLI_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))
#define EVLI_COUNT(array)          (sizeof(array) / sizeof((array)[0]))

#define EVLI_NO_SOCK   ((evl_os_sock_t)-1)
#define EVLI_NEVER     UINT64_MAX /* a due time or a timeout */
#define EVLI_NS_PER_MS UINT64_C(1000000)
#define EVLI_NS_PER_S  UINT64_C(1000000000)

/* ==== [SECTION] Memory ==== */

#if !defined(EVLOOP_MALLOC) && !defined(EVLOOP_CALLOC) && !defined(EVLOOP_REALLOC) &&              \
    !defined(EVLOOP_FREE)
#define EVLOOP_MALLOC(size)        malloc(size)
#define EVLOOP_CALLOC(count, size) calloc(count, size)
#define EVLOOP_REALLOC(ptr, size)  realloc(ptr, size)
#define EVLOOP_FREE(ptr)           free(ptr)
#elif !defined(EVLOOP_MALLOC) || !defined(EVLOOP_CALLOC) || !defined(EVLOOP_REALLOC) ||            \
    !defined(EVLOOP_FREE)
#error                                                                                             \
    "evloop.h: define all of EVLOOP_MALLOC, EVLOOP_CALLOC, EVLOOP_REALLOC and EVLOOP_FREE, or none"
#endif

#if !defined(EVLOOP_ASSERT)
#if defined(EVLOOP_DEBUG_ASSERT)
#include <assert.h>
#define EVLOOP_ASSERT(condition) assert(condition)
#else
#define EVLOOP_ASSERT(condition) ((void)sizeof(!(condition)))
#endif
#endif

#ifdef __cplusplus
extern "C" {
#endif

static void *evli_default_malloc(size_t size) {
    return EVLOOP_MALLOC(size);
}

static void *evli_default_calloc(size_t count, size_t size) {
    return EVLOOP_CALLOC(count, size);
}

static void *evli_default_realloc(void *ptr, size_t size) {
    return EVLOOP_REALLOC(ptr, size);
}

static void evli_default_free(void *ptr) {
    EVLOOP_FREE(ptr);
}

static struct {
    evl_malloc_func malloc_func;
    evl_realloc_func realloc_func;
    evl_calloc_func calloc_func;
    evl_free_func free_func;
} evli_memory = {evli_default_malloc, evli_default_realloc, evli_default_calloc, evli_default_free};

static void *evli_malloc(size_t size) {
    return evli_memory.malloc_func(size);
}

static void *evli_calloc(size_t count, size_t size) {
    return evli_memory.calloc_func(count, size);
}

static void evli_free(void *ptr) {
    if (ptr != NULL)
        evli_memory.free_func(ptr);
}

/* Makes room for `need` items where there is room for *capacity: doubles it, at least 16. Returns
 * the block, moved perhaps, or NULL, and then the old one is as it was. */
static void *evli_grow(void *block, uint32_t *capacity, uint32_t need, size_t item_size) {
    uint32_t room = *capacity < 16 ? 16 : *capacity;
    while (room < need)
        room *= 2;
    block = evli_memory.realloc_func(block, room * item_size);
    if (block != NULL)
        *capacity = room;
    return block;
}

EVLOOP_API int evl_replace_allocator(evl_malloc_func malloc_func, evl_realloc_func realloc_func,
                                     evl_calloc_func calloc_func, evl_free_func free_func) {
    if (malloc_func == NULL || realloc_func == NULL || calloc_func == NULL || free_func == NULL)
        return EVL_EINVAL;
    evli_memory.malloc_func = malloc_func;
    evli_memory.realloc_func = realloc_func;
    evli_memory.calloc_func = calloc_func;
    evli_memory.free_func = free_func;
    return 0;
}

/* ==== [SECTION] Atomics ==== */

/* All sequentially consistent but for the stores, which release: the wake-up protocol needs a load
 * that cannot pass the exchange before it.
 *
 * For a compiler that is not known here, define what it has before the include. On a uint32_t:
 * EVLOOP_ATOMIC_LOAD(p), EVLOOP_ATOMIC_STORE(p, value), EVLOOP_ATOMIC_EXCHANGE(p, value),
 * EVLOOP_ATOMIC_OR(p, bits) and EVLOOP_ATOMIC_ADD(p, value), the last three giving the old value; on
 * a pointer: EVLOOP_ATOMIC_LOAD_PTR(p), EVLOOP_ATOMIC_EXCHANGE_PTR(p, value), and
 * EVLOOP_ATOMIC_CAS_PTR(p, expected, value), which stores and gives 1 if *p is *expected, and else
 * puts *p there and gives 0. */
#if EVLI_ATOMICS == EVLI_OWN_ATOMICS

static uint32_t evli_load(const uint32_t *p) {
    return EVLOOP_ATOMIC_LOAD(p);
}

static void evli_store(uint32_t *p, uint32_t value) {
    EVLOOP_ATOMIC_STORE(p, value);
}

static uint32_t evli_exchange(uint32_t *p, uint32_t value) {
    return EVLOOP_ATOMIC_EXCHANGE(p, value);
}

static uint32_t evli_fetch_or(uint32_t *p, uint32_t bits) {
    return EVLOOP_ATOMIC_OR(p, bits);
}

static uint32_t evli_fetch_add(uint32_t *p, uint32_t value) {
    return EVLOOP_ATOMIC_ADD(p, value);
}

static evli_node_t *evli_load_node(evli_node_t *const *p) {
    return EVLOOP_ATOMIC_LOAD_PTR(p);
}

static evli_node_t *evli_exchange_node(evli_node_t **p, evli_node_t *value) {
    return EVLOOP_ATOMIC_EXCHANGE_PTR(p, value);
}

static int evli_cas_node(evli_node_t **p, evli_node_t **expected, evli_node_t *value) {
    return EVLOOP_ATOMIC_CAS_PTR(p, expected, value);
}

#elif EVLI_ATOMICS == EVLI_GNU_ATOMICS

static inline uint32_t evli_load(const uint32_t *p) {
    return __atomic_load_n(p, __ATOMIC_SEQ_CST);
}

static inline void evli_store(uint32_t *p, uint32_t value) {
    __atomic_store_n(p, value, __ATOMIC_RELEASE);
}

static inline uint32_t evli_exchange(uint32_t *p, uint32_t value) {
    return __atomic_exchange_n(p, value, __ATOMIC_SEQ_CST);
}

static inline uint32_t evli_fetch_or(uint32_t *p, uint32_t bits) {
    return __atomic_fetch_or(p, bits, __ATOMIC_SEQ_CST);
}

static inline uint32_t evli_fetch_add(uint32_t *p, uint32_t value) {
    return __atomic_fetch_add(p, value, __ATOMIC_SEQ_CST);
}

static inline evli_node_t *evli_load_node(evli_node_t *const *p) {
    return __atomic_load_n(p, __ATOMIC_SEQ_CST);
}

static inline evli_node_t *evli_exchange_node(evli_node_t **p, evli_node_t *value) {
    return __atomic_exchange_n(p, value, __ATOMIC_SEQ_CST);
}

/* Stores `value` if *p is *expected; else puts what *p is into *expected and returns 0. */
static inline int evli_cas_node(evli_node_t **p, evli_node_t **expected, evli_node_t *value) {
    return __atomic_compare_exchange_n(p, expected, value, 0, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}

#elif EVLI_ATOMICS == EVLI_MSVC_ATOMICS

static __inline uint32_t evli_load(const uint32_t *p) {
    return (uint32_t)_InterlockedOr((volatile long *)(uintptr_t)p, 0);
}

static __inline void evli_store(uint32_t *p, uint32_t value) {
    _InterlockedExchange((volatile long *)p, (long)value);
}

static __inline uint32_t evli_exchange(uint32_t *p, uint32_t value) {
    return (uint32_t)_InterlockedExchange((volatile long *)p, (long)value);
}

static __inline uint32_t evli_fetch_or(uint32_t *p, uint32_t bits) {
    return (uint32_t)_InterlockedOr((volatile long *)p, (long)bits);
}

static __inline uint32_t evli_fetch_add(uint32_t *p, uint32_t value) {
    return (uint32_t)_InterlockedExchangeAdd((volatile long *)p, (long)value);
}

static __inline evli_node_t *evli_load_node(evli_node_t *const *p) {
    return (evli_node_t *)_InterlockedCompareExchangePointer((void *volatile *)(uintptr_t)p, NULL,
                                                             NULL);
}

static __inline evli_node_t *evli_exchange_node(evli_node_t **p, evli_node_t *value) {
    return (evli_node_t *)_InterlockedExchangePointer((void *volatile *)p, value);
}

static __inline int evli_cas_node(evli_node_t **p, evli_node_t **expected, evli_node_t *value) {
    evli_node_t *old = *expected;
    *expected = (evli_node_t *)_InterlockedCompareExchangePointer((void *volatile *)p, value, old);
    return *expected == old;
}

#elif EVLI_ATOMICS == EVLI_X86_ASM_ATOMICS

/* tcc has neither builtins nor barriers, but inline assembly. x86 loads acquire and stores release
 * by themselves, and tcc does not reorder them. */
static uint32_t evli_load(const uint32_t *p) {
    return *(const volatile uint32_t *)p;
}

static void evli_store(uint32_t *p, uint32_t value) {
    *(volatile uint32_t *)p = value;
}

static uint32_t evli_exchange(uint32_t *p, uint32_t value) {
    __asm__ volatile("xchgl %0, %1" : "=r"(value), "=m"(*p) : "0"(value) : "memory");
    return value;
}

static uint32_t evli_fetch_add(uint32_t *p, uint32_t value) {
    __asm__ volatile("lock; xaddl %0, %1" : "=r"(value), "=m"(*p) : "0"(value) : "memory");
    return value;
}

static uint32_t evli_fetch_or(uint32_t *p, uint32_t bits) {
    uint32_t old, seen;
    do {
        old = evli_load(p);
        __asm__ volatile("lock; cmpxchgl %2, %1"
                         : "=a"(seen), "=m"(*p)
                         : "r"(old | bits), "0"(old)
                         : "memory");
    } while (seen != old);
    return old;
}

static evli_node_t *evli_load_node(evli_node_t *const *p) {
    return *(evli_node_t *const volatile *)p;
}

static evli_node_t *evli_exchange_node(evli_node_t **p, evli_node_t *value) {
    __asm__ volatile("xchg %0, %1" : "=r"(value), "=m"(*p) : "0"(value) : "memory");
    return value;
}

static int evli_cas_node(evli_node_t **p, evli_node_t **expected, evli_node_t *value) {
    evli_node_t *old = *expected, *seen;
    __asm__ volatile("lock; cmpxchg %2, %1"
                     : "=a"(seen), "=m"(*p)
                     : "r"(value), "0"(old)
                     : "memory");
    *expected = seen;
    return seen == old;
}

#endif

/* ==== [SECTION] Lists ==== */

/* Rings of links through a head. A link whose next is NULL is in no list. */
static inline void evli_list_init(evli_link_t *list) {
    list->next = list->prev = list;
}

static inline int evli_list_empty(const evli_link_t *list) {
    return list->next == list;
}

static inline void evli_list_insert_before(evli_link_t *at, evli_link_t *link) {
    EVLOOP_ASSERT(link->next == NULL);
    link->next = at;
    link->prev = at->prev;
    at->prev->next = link;
    at->prev = link;
}

static inline void evli_list_push(evli_link_t *list, evli_link_t *link) {
    evli_list_insert_before(list, link);
}

static inline void evli_list_push_front(evli_link_t *list, evli_link_t *link) {
    evli_list_insert_before(list->next, link);
}

static inline void evli_list_remove(evli_link_t *link) {
    if (link->next == NULL)
        return;
    link->next->prev = link->prev;
    link->prev->next = link->next;
    link->next = link->prev = NULL;
}

static inline evli_link_t *evli_list_pop(evli_link_t *list) {
    evli_link_t *link = list->next;
    evli_list_remove(link);
    return link;
}

/* Moves all of `from` to the end of `to`. */
static inline void evli_list_splice(evli_link_t *to, evli_link_t *from) {
    if (evli_list_empty(from))
        return;
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    evli_list_init(from);
}

/* ==== [SECTION] Lock-free stack ==== */

/* Many threads push, the loop's thread takes the whole stack at once: nothing is ever popped singly,
 * so no node can come back under a pusher's eyes (the ABA problem). */
EVLI_SPARE void evli_stack_push(evli_node_t **stack, evli_node_t *node) {
    evli_node_t *top = evli_load_node(stack);
    do {
        node->next = top;
    } while (!evli_cas_node(stack, &top, node));
}

/* Takes all, first pushed first. */
EVLI_SPARE evli_node_t *evli_stack_take(evli_node_t **stack) {
    evli_node_t *node, *next, *chain = NULL;
    for (node = evli_exchange_node(stack, NULL); node != NULL; node = next) {
        next = node->next;
        node->next = chain;
        chain = node;
    }
    return chain;
}

/* ==== [SECTION] Timer heap ==== */

/* A 4-ary heap in an array: the four children of an entry lie in one cache line, with the due times
 * to compare. A start to a later time only writes the node: its entry, too early now, is put right
 * when it comes to the top.
 *
 * The heap knows nothing of the order among equals. A pass takes all that is due out of it at once,
 * to the other end of the array, and sorts that: a burst of timers is cheaper to sort than to pop one
 * by one, and a callback that stops or starts others finds each of them here or there. */
typedef struct evli_heap_entry_s {
    uint64_t due_ns;
    evli_due_t *node; /* NULL: was taken, and stopped since */
} evli_heap_entry_t;

/* Evli_due_t.index: 1 and up from the front for the heap; for what a pass has taken this bit, and the
 * distance from the end. */
#define EVLI_DUE_TAKEN 0x80000000u

static inline void evli_heap_place(evl_loop_t *loop, uint32_t at, evli_heap_entry_t entry) {
    loop->priv.heap.entries[at] = entry;
    entry.node->index = at + 1;
}

static void evli_heap_sift_up(evl_loop_t *loop, uint32_t at, evli_heap_entry_t moving) {
    evli_heap_entry_t *entries = loop->priv.heap.entries;
    while (at > 0) {
        uint32_t parent = (at - 1) / 4;
        if (moving.due_ns >= entries[parent].due_ns)
            break;
        evli_heap_place(loop, at, entries[parent]);
        at = parent;
    }
    evli_heap_place(loop, at, moving);
}

static void evli_heap_sift_down(evl_loop_t *loop, uint32_t at, evli_heap_entry_t moving) {
    evli_heap_entry_t *entries = loop->priv.heap.entries;
    uint32_t count = loop->priv.heap.count;
    for (;;) {
        uint32_t child = 4 * at + 1, end = child + 4, least = child;
        if (child >= count)
            break;
        if (end > count)
            end = count;
        while (++child < end)
            if (entries[child].due_ns < entries[least].due_ns)
                least = child;
        if (moving.due_ns <= entries[least].due_ns)
            break;
        evli_heap_place(loop, at, entries[least]);
        at = least;
    }
    evli_heap_place(loop, at, moving);
}

/* Takes the entry out of the heap. */
static void evli_heap_remove(evl_loop_t *loop, uint32_t at) {
    evli_heap_entry_t *entries = loop->priv.heap.entries;
    uint32_t last = --loop->priv.heap.count;
    if (at == last)
        return;
    if (at > 0 && entries[last].due_ns < entries[(at - 1) / 4].due_ns)
        evli_heap_sift_up(loop, at, entries[last]);
    else
        evli_heap_sift_down(loop, at, entries[last]);
}

/* Doubles the array. Index 1 begins a cache line, so that children share one: that may take other
 * gaps in front than before. */
static int evli_heap_grow(evl_loop_t *loop) {
    const size_t line = 64, size = sizeof(evli_heap_entry_t);
    uint32_t capacity = loop->priv.heap.capacity, taken = loop->priv.heap.taken;
    uint32_t room = capacity == 0 ? 16 : 2 * capacity;
    size_t gap = (size_t)((char *)loop->priv.heap.entries - (char *)loop->priv.heap.block);
    evli_heap_entry_t *entries;
    char *block = NULL;
    if (room <= EVLI_DUE_TAKEN / 2)
        block = (char *)evli_memory.realloc_func(loop->priv.heap.block, room * size + line);
    if (block == NULL)
        return EVL_ENOMEM;
    entries = (evli_heap_entry_t *)(void *)(block + line - ((uintptr_t)block + size) % line);
    if ((char *)entries != block + gap)
        memmove(entries, block + gap, capacity * size);
    memmove(entries + room - taken, entries + capacity - taken, taken * size);
    loop->priv.heap.block = block;
    loop->priv.heap.entries = entries;
    loop->priv.heap.capacity = room;
    return 0;
}

static void evli_due_init(evli_due_t *node, uint32_t kind) {
    memset(node, 0, sizeof(*node));
    node->kind = kind;
}

static void evli_due_stop(evl_loop_t *loop, evli_due_t *node) {
    uint32_t index = node->index;
    if (index == 0)
        return;
    node->index = 0;
    if (index & EVLI_DUE_TAKEN)
        loop->priv.heap.entries[loop->priv.heap.capacity - (index & ~EVLI_DUE_TAKEN)].node = NULL;
    else
        evli_heap_remove(loop, index - 1);
}

/* Sets the deadline, anew or for the first time. Errors: EVL_ENOMEM, and nothing has changed. */
static int evli_due_start(evl_loop_t *loop, evli_due_t *node, uint64_t due_ns) {
    uint32_t at = node->index - 1;
    uint64_t before = node->due_ns;
    evli_heap_entry_t entry;
    if (node->index == 0 || (node->index & EVLI_DUE_TAKEN)) {
        if (loop->priv.heap.count + loop->priv.heap.taken == loop->priv.heap.capacity &&
            evli_heap_grow(loop) != 0)
            return EVL_ENOMEM;
        evli_due_stop(loop, node);
        at = loop->priv.heap.count++;
    }
    node->due_ns = due_ns;
    node->order = loop->priv.starts++;
    if (node->index != 0 && (due_ns >= before || due_ns >= loop->priv.heap.entries[at].due_ns))
        return 0; /* the entry may be too early, and is set right when it comes to the top */
    entry.due_ns = due_ns;
    entry.node = node;
    evli_heap_sift_up(loop, at, entry);
    return 0;
}

/* The node of the heap that is due first, or NULL. */
static evli_due_t *evli_due_first(evl_loop_t *loop) {
    while (loop->priv.heap.count > 0) {
        evli_heap_entry_t top = loop->priv.heap.entries[0];
        if (top.due_ns == top.node->due_ns)
            return top.node;
        top.due_ns = top.node->due_ns;
        evli_heap_sift_down(loop, 0, top);
    }
    return NULL;
}

/* ---- Taking what is due ---- */

#define EVLI_DUE_ROUND 32 /* entries taken from the top in one go */
#define EVLI_DUE_MANY  8  /* more than one in so many: a look at all of them is cheaper */

/* Sorts by due times, and equals by their starts: quicksort into what is less than, equal to and
 * greater than the pivot, for due times are often equal. Nobody can aim at the pivot. */
static void evli_due_sort(evli_heap_entry_t *entries, uint32_t count, uint32_t seed, int equals) {
    while (count > 1) {
        uint32_t less = 0, greater = count, i = 0;
        uint64_t pivot;
        seed = seed * 1664525u + 1013904223u;
        pivot = entries[(uint64_t)seed * count >> 32].due_ns;
        while (i < greater) {
            evli_heap_entry_t entry = entries[i];
            uint32_t to = entry.due_ns < pivot ? less++ : entry.due_ns > pivot ? --greater : i;
            entries[i] = entries[to];
            entries[to] = entry;
            i += entry.due_ns <= pivot;
        }
        if (!equals && greater - less > 1) {
            for (i = less; i < greater; i++)
                entries[i].due_ns = entries[i].node->order;
            evli_due_sort(entries + less, greater - less, seed, 1);
        }
        /* The smaller part by recursion, so that the stack stays low. */
        if (less < count - greater) {
            evli_due_sort(entries, less, seed, equals);
            entries += greater;
            count -= greater;
        } else {
            evli_due_sort(entries + greater, count - greater, seed, equals);
            count = less;
        }
    }
}

/* Moves an entry, which is in the heap no more, to those that were taken. */
static void evli_due_put(evl_loop_t *loop, evli_due_t *node) {
    evli_heap_entry_t *end = loop->priv.heap.entries + loop->priv.heap.capacity;
    evli_heap_entry_t *entry = end - ++loop->priv.heap.taken;
    entry->due_ns = node->due_ns;
    entry->node = node;
}

/* Takes a few that are due from the top of the heap, and puts right those that only seemed so. */
static void evli_due_take_top(evl_loop_t *loop, uint64_t by_ns) {
    evli_heap_entry_t *entries = loop->priv.heap.entries;
    uint32_t due[EVLI_DUE_ROUND], found = 1, i, child, end;
    due[0] = 0;
    for (i = 0; i < found; i++) {
        child = 4 * due[i] + 1;
        end = child + 4 < loop->priv.heap.count ? child + 4 : loop->priv.heap.count;
        for (; child < end && found < EVLI_DUE_ROUND; child++)
            if (entries[child].due_ns <= by_ns)
                due[found++] = child;
    }
    while (i-- > 0) { /* from the bottom up, so that no index goes stale */
        evli_heap_entry_t entry = entries[due[i]];
        if (entry.node->due_ns > by_ns) {
            entry.due_ns = entry.node->due_ns;
            evli_heap_sift_down(loop, due[i], entry);
        } else {
            evli_heap_remove(loop, due[i]);
            evli_due_put(loop, entry.node);
        }
    }
}

/* Takes all that are due, by a look at each entry, and makes a heap of the others. */
static void evli_due_take_many(evl_loop_t *loop, uint64_t by_ns) {
    evli_heap_entry_t *entries = loop->priv.heap.entries;
    uint32_t i = 0;
    while (i < loop->priv.heap.count) {
        evli_due_t *node = entries[i].node;
        if (entries[i].due_ns > by_ns) {
            i++;
        } else if (node->due_ns > by_ns) {
            entries[i++].due_ns = node->due_ns;
        } else {
            evli_heap_place(loop, i, entries[--loop->priv.heap.count]);
            evli_due_put(loop, node);
        }
    }
    for (i = loop->priv.heap.count / 4 + 1; i-- > 0 && loop->priv.heap.count > 1;)
        evli_heap_sift_down(loop, i, entries[i]);
}

/* Takes all that are due by then, to be run in order: evli_due_next. */
static void evli_due_take(evl_loop_t *loop, uint64_t by_ns) {
    evli_heap_entry_t *first;
    uint32_t i, taken;
    while (loop->priv.heap.count > 0 && loop->priv.heap.entries[0].due_ns <= by_ns)
        if (loop->priv.heap.taken > loop->priv.heap.count / EVLI_DUE_MANY)
            evli_due_take_many(loop, by_ns);
        else
            evli_due_take_top(loop, by_ns);
    taken = loop->priv.heap.taken;
    if (taken == 0)
        return;
    first = loop->priv.heap.entries + loop->priv.heap.capacity - taken;
    evli_due_sort(first, taken, (uint32_t)((uintptr_t)first >> 4), 0);
    for (i = 0; i < taken; i++)
        first[i].node->index = EVLI_DUE_TAKEN | (taken - i);
}

/* Gives the next of those taken, which is stopped from then on, or NULL. */
static evli_due_t *evli_due_next(evl_loop_t *loop) {
    evli_due_t *node = NULL;
    while (node == NULL && loop->priv.heap.taken > 0) {
        evli_heap_entry_t *end = loop->priv.heap.entries + loop->priv.heap.capacity;
        node = (end - loop->priv.heap.taken--)->node;
    }
    if (node != NULL)
        node->index = 0;
    return node;
}

/* Due times and timeouts are nanoseconds. From 2^63 on, which is in 292 years, the lower bits count
 * milliseconds: what is later is still the greater number, and a timeout that was given in
 * milliseconds can be told again to the last one. */
#define EVLI_FAR (UINT64_C(1) << 63)

static inline uint64_t evli_far_ms(uint64_t ms) {
    return ms < EVLI_FAR ? EVLI_FAR | ms : EVLI_NEVER;
}

static inline uint64_t evli_ms_to_ns(uint64_t ms) {
    return ms < EVLI_FAR / EVLI_NS_PER_MS ? ms * EVLI_NS_PER_MS : evli_far_ms(ms);
}

static inline uint64_t evli_ns_to_ms(uint64_t ns) {
    return ns < EVLI_FAR ? ns / EVLI_NS_PER_MS : ns & ~EVLI_FAR;
}

/* When a timeout that begins now ends. */
static inline uint64_t evli_add_ns(uint64_t now, uint64_t timeout) {
    uint64_t sum = now + timeout;
    if (EVLI_LIKELY(!((timeout | sum) & EVLI_FAR)))
        return sum;
    return evli_far_ms(evli_ns_to_ms(now) + evli_ns_to_ms(timeout));
}

/* ==== [SECTION] Task ring ==== */

struct evli_ring_item_s {
    evl_task_cb cb;
    void *arg;
};

/* Doubles the ring and lays its items out from the start again. */
static int evli_ring_grow(evli_ring_t *ring) {
    uint32_t i, capacity = ring->capacity == 0 ? 16 : ring->capacity * 2;
    struct evli_ring_item_s *items =
        (struct evli_ring_item_s *)evli_malloc(capacity * sizeof(*items));
    if (items == NULL)
        return EVL_ENOMEM;
    for (i = 0; i < ring->count; i++)
        items[i] = ring->items[(ring->head + i) & (ring->capacity - 1)];
    evli_free(ring->items);
    ring->items = items;
    ring->head = 0;
    ring->capacity = capacity;
    return 0;
}

static int evli_ring_push(evli_ring_t *ring, evl_task_cb cb, void *arg) {
    struct evli_ring_item_s *item;
    if (cb == NULL)
        return EVL_EINVAL;
    if (ring->count == ring->capacity && evli_ring_grow(ring) != 0)
        return EVL_ENOMEM;
    item = &ring->items[(ring->head + ring->count++) & (ring->capacity - 1)];
    item->cb = cb;
    item->arg = arg;
    return 0;
}

static struct evli_ring_item_s evli_ring_pop(evli_ring_t *ring) {
    struct evli_ring_item_s item = ring->items[ring->head];
    ring->head = (ring->head + 1) & (ring->capacity - 1);
    ring->count--;
    return item;
}

/* ==== [SECTION] Histogram functions ==== */

/* The class of a value: itself below 16; else which power of two it reaches, and its next four bits. */
static unsigned evli_histogram_class(uint64_t value) {
    unsigned power = 0, step;
    for (step = 32; step > 0; step /= 2)
        if (value >> (power + step) != 0)
            power += step;
    return power < 4 ? (unsigned)value : (power - 3) * 16 + (unsigned)(value >> (power - 4) & 15);
}

/* The greatest value of a class. */
static uint64_t evli_histogram_top(unsigned index) {
    unsigned shift = index < 16 ? 0 : index / 16 - 1;
    uint64_t first = index < 16 ? index : (uint64_t)(16 + index % 16) << shift;
    return first + (((uint64_t)1 << shift) - 1);
}

EVLOOP_API void evl_histogram_reset(evl_histogram_t *histogram) {
    memset(histogram, 0, sizeof(*histogram));
}

/* Mean and deviation by Welford's method, which does not lose small differences of large values. */
EVLOOP_API void evl_histogram_record(evl_histogram_t *histogram, uint64_t value) {
    double distance;
    if (histogram->priv.count == 0 || value < histogram->priv.min)
        histogram->priv.min = value;
    if (value > histogram->priv.max)
        histogram->priv.max = value;
    histogram->priv.count++;
    distance = (double)value - histogram->priv.mean;
    histogram->priv.mean += distance / (double)histogram->priv.count;
    histogram->priv.spread += distance * ((double)value - histogram->priv.mean);
    histogram->priv.classes[evli_histogram_class(value)]++;
}

EVLOOP_API uint64_t evl_histogram_count(const evl_histogram_t *histogram) {
    return histogram->priv.count;
}

EVLOOP_API uint64_t evl_histogram_min(const evl_histogram_t *histogram) {
    return histogram->priv.min;
}

EVLOOP_API uint64_t evl_histogram_max(const evl_histogram_t *histogram) {
    return histogram->priv.max;
}

EVLOOP_API uint64_t evl_histogram_percentile(const evl_histogram_t *histogram, double p) {
    double wanted = p < 0 ? 0 : p > 100 ? 100 : p;
    uint64_t seen = 0, top;
    unsigned i;
    for (i = 0; i < EVLI_COUNT(histogram->priv.classes); i++) {
        seen += histogram->priv.classes[i];
        if (seen > 0 && (double)seen * 100 >= wanted * (double)histogram->priv.count)
            break;
    }
    if (i == EVLI_COUNT(histogram->priv.classes))
        return 0;
    top = evli_histogram_top(i);
    return top < histogram->priv.max ? top : histogram->priv.max;
}

EVLOOP_API double evl_histogram_mean(const evl_histogram_t *histogram) {
    return histogram->priv.mean;
}

/* By Newton's method: the library does without libm. */
static double evli_square_root(double x) {
    double root = x > 1 ? x : 1, before;
    if (!(x > 0))
        return 0;
    do {
        before = root;
        root = (root + x / root) / 2;
    } while (root < before);
    return before;
}

EVLOOP_API double evl_histogram_stddev(const evl_histogram_t *histogram) {
    if (histogram->priv.count == 0)
        return 0;
    return evli_square_root(histogram->priv.spread / (double)histogram->priv.count);
}

/* ==== [SECTION] Error table ==== */

static const struct {
    int code;
    const char *name;
    const char *message;
} evli_errors[] = {
#define XX(name, message) {EVL_##name, #name, message},
    EVL_ERRNO_MAP(XX)
#undef XX
};

static char evli_unknown_error[48];

/* The index of a code in the table, or -1. */
static int evli_error_find(int err) {
    int i;
    for (i = 0; i < (int)EVLI_COUNT(evli_errors); i++)
        if (evli_errors[i].code == err)
            return i;
    return -1;
}

static char *evli_unknown_error_text(int err, char *buf, size_t buflen) {
    if (buflen > 0)
        snprintf(buf, buflen, "Unknown system error %d", err);
    return buf;
}

static char *evli_copy_text(const char *text, char *buf, size_t buflen) {
    if (buflen > 0)
        snprintf(buf, buflen, "%s", text);
    return buf;
}

EVLOOP_API const char *evl_strerror(int err) {
    int i = evli_error_find(err);
    if (i >= 0)
        return evli_errors[i].message;
    return evli_unknown_error_text(err, evli_unknown_error, sizeof(evli_unknown_error));
}

EVLOOP_API char *evl_strerror_r(int err, char *buf, size_t buflen) {
    int i = evli_error_find(err);
    if (i >= 0)
        return evli_copy_text(evli_errors[i].message, buf, buflen);
    return evli_unknown_error_text(err, buf, buflen);
}

EVLOOP_API const char *evl_err_name(int err) {
    int i = evli_error_find(err);
    if (i >= 0)
        return evli_errors[i].name;
    return evli_unknown_error_text(err, evli_unknown_error, sizeof(evli_unknown_error));
}

EVLOOP_API char *evl_err_name_r(int err, char *buf, size_t buflen) {
    int i = evli_error_find(err);
    if (i >= 0)
        return evli_copy_text(evli_errors[i].name, buf, buflen);
    return evli_unknown_error_text(err, buf, buflen);
}

EVLOOP_API unsigned int evl_version(void) {
    return EVL_VERSION_HEX;
}

EVLOOP_API const char *evl_version_string(void) {
    return "1.52.0";
}

EVLOOP_API evl_buf_t evl_buf_init(char *base, unsigned int len) {
    evl_buf_t buf;
    buf.base = base;
    buf.len = len;
    return buf;
}

/* Takes n bytes off the front of some buffers, and the empty ones that come first then. Returns how
 * many are left. */
EVLI_SPARE uint32_t evli_bufs_skip(evl_buf_t **bufs, uint32_t nbufs, size_t n) {
    while (nbufs > 0 && n >= (*bufs)->len) {
        n -= (*bufs)->len;
        ++*bufs;
        nbufs--;
    }
    if (nbufs > 0) {
        (*bufs)->base += n;
        (*bufs)->len -= (evli_len_t)n;
    }
    return nbufs;
}

EVLI_SPARE size_t evli_bufs_size(const evl_buf_t *bufs, unsigned int nbufs) {
    size_t size = 0;
    unsigned int i;
    for (i = 0; i < nbufs; i++)
        size += bufs[i].len;
    return size;
}

/* ==== [SECTION] POSIX system calls ==== */

#if !defined(EVLOOP_FAULT)
#define EVLOOP_FAULT(name) 0
#endif
#if !defined(EVLOOP_SHORT)
#define EVLOOP_SHORT(name, count) (count)
#endif

#if !defined(_WIN32)

/* Every call to the system goes through one of these. They retry on EINTR and return what the call
 * returned, or the negated errno. */

/* Does what a failing system call does. */
static int evli_fail(int error) {
    errno = error;
    return -1;
}

EVLOOP_API int evl_translate_sys_error(int sys_errno) {
    return sys_errno <= 0 ? sys_errno : -sys_errno;
}

static uint64_t evli_sys_clock(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * EVLI_NS_PER_S + (uint64_t)ts.tv_nsec;
}

EVLI_SPARE void evli_sys_close(int fd) {
    /* Not again on EINTR: the descriptor is gone all the same, and may be another thread's by then. */
    int saved = errno;
    close(fd);
    errno = saved;
}

EVLI_SPARE void evli_sys_close_socket(evl_os_sock_t fd) {
    evli_sys_close(fd);
}

EVLI_SPARE int evli_sys_is_stdio(evl_os_sock_t fd) {
    return fd >= 0 && fd <= 2;
}

EVLI_SPARE int evli_sys_nonblock(evl_os_sock_t fd, int on) {
    int r, fault;
    do {
        fault = EVLOOP_FAULT("fionbio");
        r = fault ? evli_fail(fault) : ioctl(fd, FIONBIO, &on);
    } while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : 0;
}

EVLI_SPARE int evli_sys_fcntl_add(int fd, int get, int set, int flag) {
    int r, fault = EVLOOP_FAULT("fcntl");
    r = fault ? evli_fail(fault) : fcntl(fd, get);
    if (r >= 0 && !(r & flag))
        r = fcntl(fd, set, r | flag);
    return r < 0 ? -errno : 0;
}

/* FIONBIO where it is known to the device, O_NONBLOCK for the rest (a kqueue, say). */
EVLI_SPARE int evli_sys_nonblock_any(evl_os_sock_t fd) {
    int err = evli_sys_nonblock(fd, 1);
    return err == EVL_ENOTTY ? evli_sys_fcntl_add(fd, F_GETFL, F_SETFL, O_NONBLOCK) : err;
}

#if EVLI_HAVE_MSG_NOSIGNAL

EVLI_SPARE void evli_sys_no_sigpipe(evl_os_sock_t fd) {
    (void)fd;
}

#else

EVLI_SPARE void evli_sys_no_sigpipe(evl_os_sock_t fd) {
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof(on));
}

#endif

#if EVLI_HAVE_ACCEPT4

EVLI_SPARE int evli_sys_socket(int domain, int type, int protocol, evl_os_sock_t *sock) {
    int fault = EVLOOP_FAULT("socket");
    *sock =
        fault ? evli_fail(fault) : socket(domain, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
    return *sock < 0 ? -errno : 0;
}

EVLI_SPARE int evli_sys_accept(evl_os_sock_t listener, evl_os_sock_t *sock) {
    int fault;
    do {
        fault = EVLOOP_FAULT("accept");
        *sock =
            fault ? evli_fail(fault) : accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    } while (*sock < 0 && errno == EINTR);
    return *sock < 0 ? -errno : 0;
}

EVLI_SPARE int evli_sys_socketpair(int type, int protocol, int fds[2]) {
    int fault = EVLOOP_FAULT("socketpair");
    int r = fault ? evli_fail(fault) : socketpair(AF_UNIX, type | SOCK_CLOEXEC, protocol, fds);
    return r < 0 ? -errno : 0;
}

EVLI_SPARE int evli_sys_pipe(int fds[2]) {
    int fault = EVLOOP_FAULT("pipe");
    int r = fault ? evli_fail(fault) : pipe2(fds, O_CLOEXEC);
    return r < 0 ? -errno : 0;
}

#else

/* Makes a descriptor what SOCK_NONBLOCK and SOCK_CLOEXEC would have made it, or closes it. */
EVLI_SPARE int evli_sys_adopt(int fd, int nonblock) {
    int err = evli_sys_fcntl_add(fd, F_GETFD, F_SETFD, FD_CLOEXEC);
    if (err == 0 && nonblock)
        err = evli_sys_nonblock(fd, 1);
    if (err == 0) {
        evli_sys_no_sigpipe(fd);
        return 0;
    }
    evli_sys_close(fd);
    return err;
}

EVLI_SPARE int evli_sys_socket(int domain, int type, int protocol, evl_os_sock_t *sock) {
    int fault = EVLOOP_FAULT("socket");
    *sock = fault ? evli_fail(fault) : socket(domain, type, protocol);
    return *sock < 0 ? -errno : evli_sys_adopt(*sock, 1);
}

EVLI_SPARE int evli_sys_accept(evl_os_sock_t listener, evl_os_sock_t *sock) {
    int fault;
    do {
        fault = EVLOOP_FAULT("accept");
        *sock = fault ? evli_fail(fault) : accept(listener, NULL, NULL);
    } while (*sock < 0 && errno == EINTR);
    return *sock < 0 ? -errno : evli_sys_adopt(*sock, 1);
}

/* The second descriptor must not outlive a failure of the first, nor the other way round. */
EVLI_SPARE int evli_sys_adopt_two(int fds[2]) {
    int err = evli_sys_adopt(fds[0], 0);
    if (err < 0) {
        evli_sys_close(fds[1]);
        return err;
    }
    err = evli_sys_adopt(fds[1], 0);
    if (err < 0)
        evli_sys_close(fds[0]);
    return err;
}

EVLI_SPARE int evli_sys_socketpair(int type, int protocol, int fds[2]) {
    int fault = EVLOOP_FAULT("socketpair");
    int r = fault ? evli_fail(fault) : socketpair(AF_UNIX, type, protocol, fds);
    return r < 0 ? -errno : evli_sys_adopt_two(fds);
}

EVLI_SPARE int evli_sys_pipe(int fds[2]) {
    int fault = EVLOOP_FAULT("pipe");
    int r = fault ? evli_fail(fault) : pipe(fds);
    return r < 0 ? -errno : evli_sys_adopt_two(fds);
}

#endif

/* Never blocks, whatever the socket's mode. */
EVLI_SPARE inline int64_t evli_sys_recv(evl_os_sock_t fd, char *base, size_t len) {
    ssize_t n;
    int fault;
    do {
        fault = EVLOOP_FAULT("recv");
        n = fault ? evli_fail(fault) : recv(fd, base, len, MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

EVLI_SPARE int64_t evli_sys_send_many(evl_os_sock_t fd, const evl_buf_t *bufs, size_t nbufs,
                                      int flags, int *full) {
    struct msghdr msg;
    ssize_t n;
    int fault;
    memset(&msg, 0, sizeof(msg));
    msg.msg_iov = (struct iovec *)(void *)(uintptr_t)bufs; /* evl_buf_t is laid out like it */
    msg.msg_iovlen = (evli_iovlen_t)nbufs;
    do {
        fault = EVLOOP_FAULT("send");
        n = fault ? evli_fail(fault) : sendmsg(fd, &msg, flags);
    } while (n < 0 && errno == EINTR);
    *full = n < (ssize_t)evli_bufs_size(bufs, (unsigned int)nbufs);
    return n < 0 ? -errno : n;
}

/* Sends from `nbufs` buffers, waiting for room only if `blocking`. *full: there is no room for more. */
EVLI_SPARE inline int64_t evli_sys_send(evl_os_sock_t fd, const evl_buf_t *bufs, size_t nbufs,
                                        int blocking, int *full) {
    size_t most = EVLOOP_SHORT("send", bufs[0].len);
    int flags = EVLI_MSG_NOSIGNAL | (blocking ? 0 : MSG_DONTWAIT);
    ssize_t n;
    int fault;
    if (nbufs > 1 && most == bufs[0].len)
        return evli_sys_send_many(fd, bufs, nbufs, flags, full);
    do {
        fault = EVLOOP_FAULT("send");
        n = fault ? evli_fail(fault) : send(fd, bufs[0].base, most, flags);
    } while (n < 0 && errno == EINTR);
    *full = n < (ssize_t)most;
    return n < 0 ? -errno : n;
}

EVLI_SPARE int evli_sys_setsockopt(evl_os_sock_t fd, int level, int name, const void *value,
                                   size_t len) {
    int fault = EVLOOP_FAULT("setsockopt");
    int r = fault ? evli_fail(fault) : setsockopt(fd, level, name, value, (socklen_t)len);
    return r < 0 ? -errno : 0;
}

EVLI_SPARE int evli_sys_getsockopt(evl_os_sock_t fd, int level, int name, int *value) {
    socklen_t len = sizeof(*value);
    int fault = EVLOOP_FAULT("getsockopt");
    int r = fault ? evli_fail(fault) : getsockopt(fd, level, name, value, &len);
    return r < 0 ? -errno : 0;
}

EVLI_SPARE int evli_sys_bind(evl_os_sock_t fd, const struct sockaddr *addr, socklen_t len) {
    int fault = EVLOOP_FAULT("bind");
    int r = fault ? evli_fail(fault) : bind(fd, addr, len);
    return r < 0 ? -errno : 0;
}

/* Starts connecting, which goes on by itself also when a signal came. */
EVLI_SPARE int evli_sys_connect(evl_os_sock_t fd, const struct sockaddr *addr, socklen_t len) {
    int fault = EVLOOP_FAULT("connect");
    int r = fault ? evli_fail(fault) : connect(fd, addr, len);
    return r == 0 || errno == EINPROGRESS || errno == EINTR ? 0 : -errno;
}

/* The own address of a socket, or its peer's. */
EVLI_SPARE int evli_sys_name(evl_os_sock_t fd, int peer, struct sockaddr *name, int *namelen) {
    socklen_t len = (socklen_t)*namelen;
    int fault = EVLOOP_FAULT("getsockname");
    int r = fault  ? evli_fail(fault)
            : peer ? getpeername(fd, name, &len)
                   : getsockname(fd, name, &len);
    if (r < 0)
        return -errno;
    *namelen = (int)len;
    return 0;
}

/* Whether a descriptor can be waited for: files and directories are always ready. */
EVLI_SPARE int evli_sys_can_wait(evl_os_sock_t fd) {
    struct stat file;
    if (fstat(fd, &file) != 0)
        return -errno;
    return S_ISREG(file.st_mode) || S_ISDIR(file.st_mode) ? (int)EVL_EPERM : 0;
}

/* Lets another thread run that is about to finish something. */
EVLI_SPARE void evli_sys_yield(void) {
    sched_yield();
}

EVLI_SPARE int evli_sys_shutdown(evl_os_sock_t fd) {
    int fault = EVLOOP_FAULT("shutdown");
    int r = fault ? evli_fail(fault) : shutdown(fd, SHUT_WR);
    return r < 0 ? -errno : 0;
}

EVLI_SPARE int evli_sys_listen(evl_os_sock_t fd, int backlog) {
    int fault = EVLOOP_FAULT("listen");
    int r = fault ? evli_fail(fault) : listen(fd, backlog);
    return r < 0 ? -errno : 0;
}

EVLOOP_API int evl_clock_gettime(evl_clock_id clock_id, evl_timespec64_t *ts) {
    struct timespec now;
    if (ts == NULL)
        return EVL_EFAULT;
    if (clock_id != EVL_CLOCK_MONOTONIC && clock_id != EVL_CLOCK_REALTIME)
        return EVL_EINVAL;
    if (clock_gettime(clock_id == EVL_CLOCK_MONOTONIC ? CLOCK_MONOTONIC : CLOCK_REALTIME, &now))
        return -errno;
    ts->tv_sec = now.tv_sec;
    ts->tv_nsec = (int32_t)now.tv_nsec;
    return 0;
}

/* Sleeps for less than a millisecond or two. */
EVLI_SPARE void evli_sys_nap(long ns) {
    struct timespec nap;
    nap.tv_sec = 0;
    nap.tv_nsec = ns;
    nanosleep(&nap, NULL);
}

EVLOOP_API void evl_sleep(unsigned int msec) {
    struct timespec left;
    left.tv_sec = (time_t)(msec / 1000);
    left.tv_nsec = (long)(msec % 1000) * (long)EVLI_NS_PER_MS;
    while (nanosleep(&left, &left) < 0 && errno == EINTR) {}
}

/* The flags of evl_socketpair and evl_pipe that are per end; closes both ends on failure. */
static int evli_nonblock_ends(int fds[2], int flags0, int flags1) {
    int err = 0;
    if (flags0 & EVL_NONBLOCK_PIPE)
        err = evli_sys_nonblock(fds[0], 1);
    if (err == 0 && (flags1 & EVL_NONBLOCK_PIPE))
        err = evli_sys_nonblock(fds[1], 1);
    if (err == 0)
        return 0;
    evli_sys_close(fds[0]);
    evli_sys_close(fds[1]);
    return err;
}

EVLOOP_API int evl_socketpair(int type, int protocol, evl_os_sock_t sockets[2], int flags0,
                              int flags1) {
    int fds[2];
    int err = evli_sys_socketpair(type, protocol, fds);
    if (err == 0)
        err = evli_nonblock_ends(fds, flags0, flags1);
    if (err < 0)
        return err;
    sockets[0] = fds[0];
    sockets[1] = fds[1];
    return 0;
}

EVLOOP_API evl_os_fd_t evl_get_osfhandle(int fd) {
    return fd;
}

EVLOOP_API int evl_open_osfhandle(evl_os_fd_t os_fd) {
    return os_fd;
}

EVLOOP_API int evl_pipe(evl_file fds[2], int read_flags, int write_flags) {
    int ends[2];
    int err = evli_sys_pipe(ends);
    if (err == 0)
        err = evli_nonblock_ends(ends, read_flags, write_flags);
    if (err < 0)
        return err;
    fds[0] = ends[0];
    fds[1] = ends[1];
    return 0;
}

EVLI_SPARE int evli_sys_set_blocking(evl_os_sock_t fd, int blocking) {
    return evli_sys_nonblock(fd, !blocking);
}

/* What every system of this kind has. */
static int evli_sys_urandom(char *base, size_t len) {
    int fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC), err = 0;
    if (fd < 0)
        return -errno;
    while (len > 0 && err == 0) {
        ssize_t n = read(fd, base, len);
        if (n > 0) {
            base += n;
            len -= (size_t)n;
        } else if (n == 0 || errno != EINTR) {
            err = n == 0 ? (int)EVL_EIO : -errno;
        }
    }
    evli_sys_close(fd);
    return err;
}

#if defined(__linux__) && defined(SYS_getrandom)

static int evli_sys_random(char *base, size_t len) {
    while (len > 0) {
        int fault = EVLOOP_FAULT("getrandom");
        long n = fault ? evli_fail(fault) : syscall(SYS_getrandom, base, len, 0);
        if (n > 0) {
            base += n;
            len -= (size_t)n;
        } else if (n == 0 || errno != EINTR) {
            return n < 0 && (errno == ENOSYS || errno == EPERM) ? evli_sys_urandom(base, len)
                   : n < 0                                      ? -errno
                                                                : (int)EVL_EIO;
        }
    }
    return 0;
}

#elif defined(__APPLE__) || defined(__FreeBSD__) || defined(__OpenBSD__)

static int evli_sys_random(char *base, size_t len) {
    while (len > 0) {
        size_t part = len < 256 ? len : 256; /* it gives no more at a time */
        if (getentropy(base, part) != 0)
            return errno == ENOSYS ? evli_sys_urandom(base, len) : -errno;
        base += part;
        len -= part;
    }
    return 0;
}

#else

static int evli_sys_random(char *base, size_t len) {
    return evli_sys_urandom(base, len);
}

#endif

/* A port may be bound while connections of its last owner linger. */
EVLI_SPARE int evli_sys_reuseaddr(evl_os_sock_t fd) {
    int on = 1;
    return evli_sys_setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
}

/* Gives up connecting. */
EVLI_SPARE void evli_sys_disconnect(evl_os_sock_t fd) {
    struct sockaddr none;
    memset(&none, 0, sizeof(none));
    none.sa_family = AF_UNSPEC;
    connect(fd, &none, sizeof(none));
}

/* How a connect has ended: 0, an error, or EVL_EALREADY while it has not. */
EVLI_SPARE int evli_sys_connect_result(evl_os_sock_t fd) {
    int error = 0, err = evli_sys_getsockopt(fd, SOL_SOCKET, SO_ERROR, &error);
    if (err != 0)
        return err;
    return error == EINPROGRESS ? (int)EVL_EALREADY : -error;
}

EVLI_SPARE uint32_t evli_sys_scope_id(const char *scope) {
    return if_nametoindex(scope);
}

EVLI_SPARE int evli_sys_block_signal(int signum) {
    return signum == SIGPROF ? 0 : (int)EVL_EINVAL;
}

#if defined(TCP_KEEPIDLE) || defined(TCP_KEEPALIVE)

#if defined(__DragonFly__) && __DragonFly_version < 500702
#define EVLI_TCP_KEEP_UNIT 1000 /* it counted milliseconds */
#else
#define EVLI_TCP_KEEP_UNIT 1
#endif

#if defined(TCP_KEEPIDLE)
#define EVLI_TCP_KEEPIDLE TCP_KEEPIDLE
#else
#define EVLI_TCP_KEEPIDLE TCP_KEEPALIVE /* macOS's name for it */
#endif

EVLI_SPARE int evli_sys_keepalive(evl_os_sock_t fd, int on, unsigned int idle, unsigned int intvl,
                                  unsigned int cnt) {
    int idle_s = (int)idle * EVLI_TCP_KEEP_UNIT, intvl_s = (int)intvl * EVLI_TCP_KEEP_UNIT;
    int probes = (int)cnt, err;
    err = evli_sys_setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    if (err != 0 || !on)
        return err;
    err = evli_sys_setsockopt(fd, IPPROTO_TCP, EVLI_TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
    if (err == 0)
        err = evli_sys_setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &intvl_s, sizeof(intvl_s));
    if (err == 0)
        err = evli_sys_setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
    return err;
}

#else

/* OpenBSD sets the times for the whole system. */
EVLI_SPARE int evli_sys_keepalive(evl_os_sock_t fd, int on, unsigned int idle, unsigned int intvl,
                                  unsigned int cnt) {
    (void)idle;
    (void)intvl;
    (void)cnt;
    return evli_sys_setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
}

#endif

#if defined(__OpenBSD__)

/* Its IPv6 sockets are for IPv6 alone, and refuse to be asked for more. */
EVLI_SPARE int evli_sys_only6(evl_os_sock_t fd, int only6) {
    (void)fd;
    (void)only6;
    return 0;
}

#else

EVLI_SPARE int evli_sys_only6(evl_os_sock_t fd, int only6) {
    return evli_sys_setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only6, sizeof(only6));
}

#endif

#if defined(__linux__) || defined(__DragonFly__)

EVLI_SPARE int evli_sys_reuseport(evl_os_sock_t fd) {
    int on = 1;
    return evli_sys_setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
}

#elif defined(__FreeBSD__) && defined(SO_REUSEPORT_LB)

EVLI_SPARE int evli_sys_reuseport(evl_os_sock_t fd) {
    int on = 1;
    return evli_sys_setsockopt(fd, SOL_SOCKET, SO_REUSEPORT_LB, &on, sizeof(on));
}

#else

/* SO_REUSEPORT there lets the last socket take all: not what is asked for. */
EVLI_SPARE int evli_sys_reuseport(evl_os_sock_t fd) {
    (void)fd;
    return EVL_ENOTSUP;
}

#endif

#if !defined(EVLOOP_NO_DNS)

static const struct {
    int system;
    int code;
} evli_eai_errors[] = {
#if defined(EAI_ADDRFAMILY)
    {EAI_ADDRFAMILY, EVL_EAI_ADDRFAMILY},
#endif
    {EAI_AGAIN, EVL_EAI_AGAIN},
    {EAI_BADFLAGS, EVL_EAI_BADFLAGS},
#if defined(EAI_BADHINTS)
    {EAI_BADHINTS, EVL_EAI_BADHINTS},
#endif
#if defined(EAI_CANCELED)
    {EAI_CANCELED, EVL_EAI_CANCELED},
#endif
    {EAI_FAIL, EVL_EAI_FAIL},
    {EAI_FAMILY, EVL_EAI_FAMILY},
    {EAI_MEMORY, EVL_EAI_MEMORY},
    {EAI_NONAME, EVL_EAI_NONAME},
#if defined(EAI_NODATA)
    {EAI_NODATA, EVL_EAI_NODATA},
#endif
#if defined(EAI_OVERFLOW)
    {EAI_OVERFLOW, EVL_EAI_OVERFLOW},
#endif
#if defined(EAI_PROTOCOL)
    {EAI_PROTOCOL, EVL_EAI_PROTOCOL},
#endif
    {EAI_SERVICE, EVL_EAI_SERVICE},
    {EAI_SOCKTYPE, EVL_EAI_SOCKTYPE},
};

/* The code for what the resolver reports; errno counts where it says so. */
static int evli_eai_error(int error) {
    size_t i;
    if (error == 0)
        return 0;
    if (error == EAI_SYSTEM)
        return -errno;
    for (i = 0; i < EVLI_COUNT(evli_eai_errors); i++)
        if (evli_eai_errors[i].system == error)
            return evli_eai_errors[i].code;
    return EVL_UNKNOWN;
}

static int evli_sys_getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
                                struct addrinfo **result) {
    int fault = EVLOOP_FAULT("getaddrinfo");
    return evli_eai_error(fault ? fault : getaddrinfo(host, service, hints, result));
}

static void evli_sys_freeaddrinfo(struct addrinfo *result) {
    if (result != NULL)
        freeaddrinfo(result);
}

static int evli_sys_getnameinfo(const struct sockaddr *addr, char host[1025], char service[32],
                                int flags) {
    socklen_t len = addr->sa_family == AF_INET ? (socklen_t)sizeof(struct sockaddr_in)
                                               : (socklen_t)sizeof(struct sockaddr_in6);
    int fault = EVLOOP_FAULT("getnameinfo");
    return evli_eai_error(fault ? fault : getnameinfo(addr, len, host, 1025, service, 32, flags));
}

#endif /* !EVLOOP_NO_DNS */

EVLI_SPARE uint32_t evli_sys_link_local_scope(void) {
    struct ifaddrs *all, *one;
    uint32_t scope = 0;
    if (getifaddrs(&all) != 0)
        return 0;
    for (one = all; one != NULL && scope == 0; one = one->ifa_next)
        if (one->ifa_addr != NULL && one->ifa_addr->sa_family == AF_INET6) {
            const struct sockaddr_in6 *addr = (const struct sockaddr_in6 *)(void *)one->ifa_addr;
            if (IN6_IS_ADDR_LINKLOCAL(&addr->sin6_addr))
                scope = addr->sin6_scope_id;
        }
    freeifaddrs(all);
    return scope;
}

#endif /* !_WIN32 */

/* ==== [SECTION] Windows system calls ==== */

#if defined(_WIN32)

/* The same wrappers for Windows. EVLOOP_FAULT gives an error code of Winsock's or Win32's here. */
static const struct {
    int system;
    int code;
} evli_win_errors[] = {
    {ERROR_ACCESS_DENIED, EVL_EPERM},
    {ERROR_ADDRESS_ALREADY_ASSOCIATED, EVL_EADDRINUSE},
    {ERROR_ALREADY_EXISTS, EVL_EEXIST},
    {ERROR_BAD_EXE_FORMAT, EVL_EFTYPE},
    {ERROR_BAD_PATHNAME, EVL_ENOENT},
    {ERROR_BAD_PIPE, EVL_EPIPE},
    {ERROR_BEGINNING_OF_MEDIA, EVL_EIO},
    {ERROR_BROKEN_PIPE, EVL_EOF},
    {ERROR_BUFFER_OVERFLOW, EVL_ENAMETOOLONG},
    {ERROR_BUS_RESET, EVL_EIO},
    {ERROR_CANNOT_MAKE, EVL_ENOSPC},
    {ERROR_CANT_ACCESS_FILE, EVL_EACCES},
    {ERROR_CANT_RESOLVE_FILENAME, EVL_ELOOP},
    {ERROR_CONNECTION_ABORTED, EVL_ECONNABORTED},
    {ERROR_CONNECTION_REFUSED, EVL_ECONNREFUSED},
    {ERROR_CRC, EVL_EIO},
    {ERROR_DEVICE_DOOR_OPEN, EVL_EIO},
    {ERROR_DEVICE_REQUIRES_CLEANING, EVL_EIO},
    {ERROR_DIRECTORY, EVL_ENOENT},
    {ERROR_DIR_NOT_EMPTY, EVL_ENOTEMPTY},
    {ERROR_DISK_CORRUPT, EVL_EIO},
    {ERROR_DISK_FULL, EVL_ENOSPC},
    {ERROR_EA_TABLE_FULL, EVL_ENOSPC},
    {740 /* ERROR_ELEVATION_REQUIRED */, EVL_EACCES}, /* older headers lack the name */
    {ERROR_END_OF_MEDIA, EVL_ENOSPC},
    {ERROR_ENVVAR_NOT_FOUND, EVL_ENOENT},
    {ERROR_EOM_OVERFLOW, EVL_EIO},
    {ERROR_FILEMARK_DETECTED, EVL_EIO},
    {ERROR_FILENAME_EXCED_RANGE, EVL_ENAMETOOLONG},
    {ERROR_FILE_EXISTS, EVL_EEXIST},
    {ERROR_FILE_NOT_FOUND, EVL_ENOENT},
    {ERROR_GEN_FAILURE, EVL_EIO},
    {ERROR_HANDLE_DISK_FULL, EVL_ENOSPC},
    {ERROR_HOST_UNREACHABLE, EVL_EHOSTUNREACH},
    {ERROR_INSUFFICIENT_BUFFER, EVL_EINVAL},
    {ERROR_INVALID_BLOCK_LENGTH, EVL_EIO},
    {ERROR_INVALID_DATA, EVL_EINVAL},
    {ERROR_INVALID_DRIVE, EVL_ENOENT},
    {ERROR_INVALID_FLAGS, EVL_EBADF},
    {ERROR_INVALID_FUNCTION, EVL_EISDIR},
    {ERROR_INVALID_HANDLE, EVL_EBADF},
    {ERROR_INVALID_NAME, EVL_ENOENT},
    {ERROR_INVALID_PARAMETER, EVL_EINVAL},
    {ERROR_INVALID_REPARSE_DATA, EVL_ENOENT},
    {ERROR_IO_DEVICE, EVL_EIO},
    {ERROR_LOCK_VIOLATION, EVL_EBUSY},
    {ERROR_META_EXPANSION_TOO_LONG, EVL_E2BIG},
    {ERROR_MOD_NOT_FOUND, EVL_ENOENT},
    {ERROR_NETNAME_DELETED, EVL_ECONNRESET},
    {ERROR_NETWORK_UNREACHABLE, EVL_ENETUNREACH},
    {ERROR_NOACCESS, EVL_EFAULT},
    {ERROR_NOT_A_REPARSE_POINT, EVL_EINVAL},
    {ERROR_NOT_CONNECTED, EVL_ENOTCONN},
    {ERROR_NOT_ENOUGH_MEMORY, EVL_ENOMEM},
    {ERROR_NOT_FOUND, EVL_ENOENT},
    {ERROR_NOT_SAME_DEVICE, EVL_EXDEV},
    {ERROR_NOT_SUPPORTED, EVL_ENOTSUP},
    {ERROR_NO_DATA, EVL_EPIPE},
    {ERROR_NO_DATA_DETECTED, EVL_EIO},
    {ERROR_NO_SIGNAL_SENT, EVL_EIO},
    {ERROR_NO_SYSTEM_RESOURCES, EVL_ENOMEM},
    {ERROR_NO_UNICODE_TRANSLATION, EVL_ECHARSET},
    {ERROR_OPEN_FAILED, EVL_EIO},
    {ERROR_OPERATION_ABORTED, EVL_ECANCELED},
    {ERROR_OUTOFMEMORY, EVL_ENOMEM},
    {ERROR_PATH_NOT_FOUND, EVL_ENOENT},
    {ERROR_PIPE_BUSY, EVL_EBUSY},
    {ERROR_PIPE_NOT_CONNECTED, EVL_EPIPE},
    {ERROR_PRIVILEGE_NOT_HELD, EVL_EPERM},
    {ERROR_SEM_TIMEOUT, EVL_ETIMEDOUT},
    {ERROR_SETMARK_DETECTED, EVL_EIO},
    {ERROR_SHARING_VIOLATION, EVL_EBUSY},
    {ERROR_SIGNAL_REFUSED, EVL_EIO},
    {ERROR_SYMLINK_NOT_SUPPORTED, EVL_EINVAL},
    {ERROR_TOO_MANY_OPEN_FILES, EVL_EMFILE},
    {ERROR_WRITE_PROTECT, EVL_EROFS},
    {WSAEACCES, EVL_EACCES},
    {WSAEADDRINUSE, EVL_EADDRINUSE},
    {WSAEADDRNOTAVAIL, EVL_EADDRNOTAVAIL},
    {WSAEAFNOSUPPORT, EVL_EAFNOSUPPORT},
    {WSAEALREADY, EVL_EALREADY},
    {WSAEBADF, EVL_EBADF},
    {WSAECONNABORTED, EVL_ECONNABORTED},
    {WSAECONNREFUSED, EVL_ECONNREFUSED},
    {WSAECONNRESET, EVL_ECONNRESET},
    {WSAEDESTADDRREQ, EVL_EDESTADDRREQ},
    {WSAEFAULT, EVL_EFAULT},
    {WSAEHOSTUNREACH, EVL_EHOSTUNREACH},
    {WSAEINTR, EVL_ECANCELED},
    {WSAEINVAL, EVL_EINVAL},
    {WSAEISCONN, EVL_EISCONN},
    {WSAEMFILE, EVL_EMFILE},
    {WSAEMSGSIZE, EVL_EMSGSIZE},
    {WSAENETDOWN, EVL_ENETDOWN},
    {WSAENETRESET, EVL_ECONNRESET},
    {WSAENETUNREACH, EVL_ENETUNREACH},
    {WSAENOBUFS, EVL_ENOBUFS},
    {WSAENOPROTOOPT, EVL_ENOPROTOOPT},
    {WSAENOTCONN, EVL_ENOTCONN},
    {WSAENOTSOCK, EVL_ENOTSOCK},
    {WSAEOPNOTSUPP, EVL_ENOTSUP},
    {WSAEPFNOSUPPORT, EVL_EINVAL},
    {WSAEPROTONOSUPPORT, EVL_EPROTONOSUPPORT},
    {WSAEPROTOTYPE, EVL_EPROTOTYPE},
    {WSAESHUTDOWN, EVL_EPIPE},
    {WSAESOCKTNOSUPPORT, EVL_ESOCKTNOSUPPORT},
    {WSAETIMEDOUT, EVL_ETIMEDOUT},
    {WSAEWOULDBLOCK, EVL_EAGAIN},
    {WSAHOST_NOT_FOUND, EVL_ENOENT},
    {WSANOTINITIALISED, EVL_EINVAL},
    {WSANO_DATA, EVL_ENOENT},
    {WSASYSNOTREADY, EVL_ENETDOWN},
};

EVLOOP_API int evl_translate_sys_error(int sys_errno) {
    size_t i;
    if (sys_errno <= 0)
        return sys_errno;
    for (i = 0; i < EVLI_COUNT(evli_win_errors); i++)
        if (evli_win_errors[i].system == sys_errno)
            return evli_win_errors[i].code;
    return EVL_UNKNOWN;
}

/* Does what a failing call of Winsock's does. */
static int evli_fail(int error) {
    WSASetLastError(error);
    return SOCKET_ERROR;
}

static int evli_wsa_error(void) {
    return evl_translate_sys_error(WSAGetLastError());
}

static int evli_win_error(void) {
    return evl_translate_sys_error((int)GetLastError());
}

static uint64_t evli_sys_clock(void) {
    static uint64_t frequency; /* of the counter: it never changes, so a race sets the same value */
    LARGE_INTEGER value;
    uint64_t ticks, hz = frequency;
    if (hz == 0) {
        QueryPerformanceFrequency(&value);
        hz = frequency = (uint64_t)value.QuadPart;
    }
    QueryPerformanceCounter(&value);
    ticks = (uint64_t)value.QuadPart;
    return ticks / hz * EVLI_NS_PER_S + ticks % hz * EVLI_NS_PER_S / hz;
}

EVLOOP_API int evl_clock_gettime(evl_clock_id clock_id, evl_timespec64_t *ts) {
    FILETIME time;
    uint64_t ns;
    if (ts == NULL)
        return EVL_EFAULT;
    if (clock_id == EVL_CLOCK_MONOTONIC) {
        ns = evli_sys_clock();
    } else if (clock_id == EVL_CLOCK_REALTIME) { /* in 100 ns since 1601 */
        GetSystemTimePreciseAsFileTime(&time);
        ns = (((uint64_t)time.dwHighDateTime << 32 | time.dwLowDateTime) -
              UINT64_C(116444736000000000)) *
             100;
    } else {
        return EVL_EINVAL;
    }
    ts->tv_sec = (int64_t)(ns / EVLI_NS_PER_S);
    ts->tv_nsec = (int32_t)(ns % EVLI_NS_PER_S);
    return 0;
}

EVLI_SPARE void evli_sys_nap(long ns) {
    (void)ns;
}

EVLOOP_API void evl_sleep(unsigned int msec) {
    Sleep(msec);
}

EVLI_SPARE void evli_sys_yield(void) {
    SwitchToThread();
}

static INIT_ONCE evli_wsa_once = INIT_ONCE_STATIC_INIT;
static int evli_wsa_status;

static BOOL CALLBACK evli_wsa_startup(PINIT_ONCE once, PVOID arg, PVOID *context) {
    WSADATA data;
    (void)once;
    (void)arg;
    (void)context;
    evli_wsa_status = evl_translate_sys_error(WSAStartup(MAKEWORD(2, 2), &data));
    return TRUE;
}

/* Winsock wants to be started, once in the process. */
static int evli_wsa_init(void) {
    InitOnceExecuteOnce(&evli_wsa_once, evli_wsa_startup, NULL, NULL);
    return evli_wsa_status;
}

EVLI_SPARE void evli_sys_close_socket(evl_os_sock_t sock) {
    int saved = WSAGetLastError();
    closesocket(sock);
    WSASetLastError(saved);
}

EVLI_SPARE int evli_sys_is_stdio(evl_os_sock_t sock) {
    (void)sock;
    return 0;
}

EVLI_SPARE int evli_sys_nonblock(evl_os_sock_t sock, int on) {
    u_long mode = on ? 1 : 0;
    int fault = EVLOOP_FAULT("fionbio");
    int r = fault ? evli_fail(fault) : ioctlsocket(sock, (long)FIONBIO, &mode);
    return r == SOCKET_ERROR ? evli_wsa_error() : 0;
}

EVLI_SPARE int evli_sys_nonblock_any(evl_os_sock_t sock) {
    return evli_sys_nonblock(sock, 1);
}

/* Sockets stay nonblocking, so that reads never block: a blocking write waits for room itself. */
EVLI_SPARE int evli_sys_set_blocking(evl_os_sock_t sock, int blocking) {
    (void)sock;
    (void)blocking;
    return 0;
}

EVLI_SPARE void evli_sys_no_sigpipe(evl_os_sock_t sock) {
    (void)sock;
}

EVLI_SPARE int evli_sys_socket(int domain, int type, int protocol, evl_os_sock_t *sock) {
    int fault = EVLOOP_FAULT("socket"), err = evli_wsa_init();
    if (err != 0)
        return err;
    *sock = fault ? (evl_os_sock_t)evli_fail(fault)
                  : WSASocketW(domain, type, protocol, NULL, 0,
                               WSA_FLAG_OVERLAPPED | WSA_FLAG_NO_HANDLE_INHERIT);
    if (*sock == EVLI_NO_SOCK)
        return evli_wsa_error();
    err = evli_sys_nonblock(*sock, 1);
    if (err != 0)
        evli_sys_close_socket(*sock);
    return err;
}

EVLI_SPARE int evli_sys_accept(evl_os_sock_t listener, evl_os_sock_t *sock) {
    int err, fault = EVLOOP_FAULT("accept");
    *sock = fault ? (evl_os_sock_t)evli_fail(fault) : accept(listener, NULL, NULL);
    if (*sock == EVLI_NO_SOCK)
        return evli_wsa_error();
    SetHandleInformation((HANDLE)*sock, HANDLE_FLAG_INHERIT, 0);
    err = evli_sys_nonblock(*sock, 1);
    if (err != 0)
        evli_sys_close_socket(*sock);
    return err;
}

EVLI_SPARE int64_t evli_sys_recv(evl_os_sock_t sock, char *base, size_t len) {
    int fault = EVLOOP_FAULT("recv");
    int n = fault ? evli_fail(fault)
                  : recv(sock, base, (int)(len < INT_MAX ? len : (size_t)INT_MAX), 0);
    return n == SOCKET_ERROR ? evli_wsa_error() : n;
}

EVLI_SPARE int64_t evli_sys_send(evl_os_sock_t sock, const evl_buf_t *bufs, size_t nbufs,
                                 int blocking, int *full) {
    WSAPOLLFD room;
    DWORD sent = 0;
    for (;;) {
        size_t most = EVLOOP_SHORT("send", bufs[0].len);
        int fault = EVLOOP_FAULT("send"), r;
        WSABUF first;
        first.buf = bufs[0].base;
        first.len = (ULONG)most;
        if (fault)
            r = evli_fail(fault);
        else if (most < bufs[0].len)
            r = WSASend(sock, &first, 1, &sent, 0, NULL, NULL);
        else
            r = WSASend(sock, (WSABUF *)(uintptr_t)bufs, (DWORD)nbufs, &sent, 0, NULL, NULL);
        if (most == bufs[0].len)
            most = evli_bufs_size(bufs, (unsigned int)nbufs);
        *full = r != 0 || sent < most;
        if (r == 0)
            return (int64_t)sent;
        if (!blocking || WSAGetLastError() != WSAEWOULDBLOCK)
            return evli_wsa_error();
        room.fd = sock;
        room.events = POLLWRNORM;
        if (WSAPoll(&room, 1, -1) == SOCKET_ERROR)
            return evli_wsa_error();
    }
}

EVLI_SPARE int evli_sys_setsockopt(evl_os_sock_t sock, int level, int name, const void *value,
                                   size_t len) {
    int fault = EVLOOP_FAULT("setsockopt");
    int r = fault ? evli_fail(fault) : setsockopt(sock, level, name, (const char *)value, (int)len);
    return r == SOCKET_ERROR ? evli_wsa_error() : 0;
}

EVLI_SPARE int evli_sys_getsockopt(evl_os_sock_t sock, int level, int name, int *value) {
    int len = sizeof(*value), fault = EVLOOP_FAULT("getsockopt");
    int r = fault ? evli_fail(fault) : getsockopt(sock, level, name, (char *)value, &len);
    return r == SOCKET_ERROR ? evli_wsa_error() : 0;
}

/* SO_REUSEADDR would let others steal the port there; without it, it does what it does elsewhere. */
EVLI_SPARE int evli_sys_reuseaddr(evl_os_sock_t sock) {
    (void)sock;
    return 0;
}

EVLI_SPARE int evli_sys_bind(evl_os_sock_t sock, const struct sockaddr *addr, socklen_t len) {
    int fault = EVLOOP_FAULT("bind");
    int r = fault ? evli_fail(fault) : bind(sock, addr, len);
    if (r == SOCKET_ERROR && WSAGetLastError() == WSAEFAULT) /* the other family's address */
        return EVL_EINVAL;
    return r == SOCKET_ERROR ? evli_wsa_error() : 0;
}

EVLI_SPARE int evli_sys_connect(evl_os_sock_t sock, const struct sockaddr *addr, socklen_t len) {
    int fault = EVLOOP_FAULT("connect");
    int r = fault ? evli_fail(fault) : connect(sock, addr, len);
    return r == 0 || WSAGetLastError() == WSAEWOULDBLOCK ? 0 : evli_wsa_error();
}

/* Windows gives up only with the socket: a second connect is refused there. */
EVLI_SPARE void evli_sys_disconnect(evl_os_sock_t sock) {
    (void)sock;
}

EVLI_SPARE int evli_sys_connect_result(evl_os_sock_t sock) {
    int error = 0, err = evli_sys_getsockopt(sock, SOL_SOCKET, SO_ERROR, &error);
    return err != 0 ? err : evl_translate_sys_error(error);
}

/* With too little room Winsock fails; here the name is cut off, as it is elsewhere. */
EVLI_SPARE int evli_sys_name(evl_os_sock_t sock, int peer, struct sockaddr *name, int *namelen) {
    struct sockaddr_storage whole;
    struct sockaddr *all = (struct sockaddr *)&whole;
    int len = sizeof(whole), fault = EVLOOP_FAULT("getsockname");
    int r = fault  ? evli_fail(fault)
            : peer ? getpeername(sock, all, &len)
                   : getsockname(sock, all, &len);
    if (r == SOCKET_ERROR)
        return evli_wsa_error();
    memcpy(name, &whole, (size_t)(len < *namelen ? len : *namelen));
    *namelen = len;
    return 0;
}

EVLI_SPARE int evli_sys_can_wait(evl_os_sock_t sock) {
    int type;
    return evli_sys_getsockopt(sock, SOL_SOCKET, SO_TYPE, &type);
}

/* Winsock does not bind what listens unbound: to a port of the system's choice. */
static int evli_sys_bind_any(evl_os_sock_t sock) {
    struct sockaddr_in6 any6;
    struct sockaddr_in any4;
    memset(&any4, 0, sizeof(any4));
    any4.sin_family = AF_INET;
    if (bind(sock, (const struct sockaddr *)&any4, sizeof(any4)) == 0)
        return 0;
    memset(&any6, 0, sizeof(any6));
    any6.sin6_family = AF_INET6;
    return bind(sock, (const struct sockaddr *)&any6, sizeof(any6));
}

EVLI_SPARE int evli_sys_listen(evl_os_sock_t sock, int backlog) {
    int fault = EVLOOP_FAULT("listen");
    int r = fault ? evli_fail(fault) : listen(sock, backlog);
    if (r == SOCKET_ERROR && WSAGetLastError() == WSAEINVAL && evli_sys_bind_any(sock) == 0)
        r = listen(sock, backlog);
    return r == SOCKET_ERROR ? evli_wsa_error() : 0;
}

EVLI_SPARE int evli_sys_shutdown(evl_os_sock_t sock) {
    int fault = EVLOOP_FAULT("shutdown");
    int r = fault ? evli_fail(fault) : shutdown(sock, SD_SEND);
    return r == SOCKET_ERROR ? evli_wsa_error() : 0;
}

/* What Windows has before 10 (1709): the number of probes cannot be set there, it is 10. */
static int evli_sys_keepalive_old(evl_os_sock_t sock, unsigned int idle, unsigned int intvl) {
    struct tcp_keepalive values;
    DWORD unused;
    values.onoff = 1;
    values.keepalivetime = idle * 1000;
    values.keepaliveinterval = intvl * 1000;
    if (WSAIoctl(sock, SIO_KEEPALIVE_VALS, &values, sizeof(values), NULL, 0, &unused, NULL, NULL) ==
        SOCKET_ERROR)
        return evli_wsa_error();
    return 0;
}

EVLI_SPARE int evli_sys_keepalive(evl_os_sock_t sock, int on, unsigned int idle, unsigned int intvl,
                                  unsigned int cnt) {
    enum { KEEPIDLE = 3, KEEPCNT = 16, KEEPINTVL = 17 }; /* TCP_…: older headers lack them */
    DWORD idle_s = idle, intvl_s = intvl, probes = cnt;
    BOOL enable = on != 0;
    int err = evli_sys_setsockopt(sock, SOL_SOCKET, SO_KEEPALIVE, &enable, sizeof(enable));
    if (err != 0 || !on)
        return err;
    if (evli_sys_setsockopt(sock, IPPROTO_TCP, KEEPIDLE, &idle_s, sizeof(idle_s)) != 0 ||
        evli_sys_setsockopt(sock, IPPROTO_TCP, KEEPINTVL, &intvl_s, sizeof(intvl_s)) != 0 ||
        evli_sys_setsockopt(sock, IPPROTO_TCP, KEEPCNT, &probes, sizeof(probes)) != 0)
        return evli_sys_keepalive_old(sock, idle, intvl);
    return 0;
}

EVLI_SPARE int evli_sys_only6(evl_os_sock_t sock, int only6) {
    return evli_sys_setsockopt(sock, IPPROTO_IPV6, IPV6_V6ONLY, &only6, sizeof(only6));
}

EVLI_SPARE int evli_sys_reuseport(evl_os_sock_t sock) {
    (void)sock;
    return EVL_ENOTSUP;
}

/* Windows finds the link of such an address itself. */
EVLI_SPARE uint32_t evli_sys_link_local_scope(void) {
    return 0;
}

EVLI_SPARE uint32_t evli_sys_scope_id(const char *scope) {
    return (uint32_t)strtoul(scope, NULL, 10);
}

EVLI_SPARE int evli_sys_block_signal(int signum) {
    (void)signum;
    return EVL_ENOSYS; /* Windows has no signals to block */
}

#if !defined(EVLOOP_NO_DNS)

static const struct {
    int system;
    int code;
} evli_eai_errors[] = {
    {WSATRY_AGAIN, EVL_EAI_AGAIN},
    {WSAEINVAL, EVL_EAI_BADFLAGS},
    {WSANO_RECOVERY, EVL_EAI_FAIL},
    {WSAEAFNOSUPPORT, EVL_EAI_FAMILY},
    {WSA_NOT_ENOUGH_MEMORY, EVL_EAI_MEMORY},
    {WSAHOST_NOT_FOUND, EVL_EAI_NONAME},
    {WSANO_DATA, EVL_EAI_NODATA},
    {WSATYPE_NOT_FOUND, EVL_EAI_SERVICE},
    {WSAESOCKTNOSUPPORT, EVL_EAI_SOCKTYPE},
};

static int evli_eai_error(int error) {
    size_t i;
    for (i = 0; i < EVLI_COUNT(evli_eai_errors); i++)
        if (evli_eai_errors[i].system == error)
            return evli_eai_errors[i].code;
    return evl_translate_sys_error(error);
}

/* The bytes that an entry takes in the block that is made of a result. */
static size_t evli_addrinfo_size(const ADDRINFOW *entry) {
    size_t size = sizeof(struct addrinfo) + (entry->ai_addrlen + 7) / 8 * 8;
    if (entry->ai_canonname != NULL)
        size +=
            (size_t)WideCharToMultiByte(CP_UTF8, 0, entry->ai_canonname, -1, NULL, 0, NULL, NULL);
    return (size + 7) / 8 * 8;
}

static void evli_addrinfo_copy(const ADDRINFOW *entry, char *block) {
    struct addrinfo *copy = (struct addrinfo *)(void *)block;
    char *name = block + sizeof(*copy) + (entry->ai_addrlen + 7) / 8 * 8;
    memset(copy, 0, sizeof(*copy));
    copy->ai_flags = entry->ai_flags;
    copy->ai_family = entry->ai_family;
    copy->ai_socktype = entry->ai_socktype;
    copy->ai_protocol = entry->ai_protocol;
    copy->ai_addrlen = entry->ai_addrlen;
    copy->ai_addr = (struct sockaddr *)(void *)(copy + 1);
    memcpy(copy->ai_addr, entry->ai_addr, entry->ai_addrlen);
    if (entry->ai_canonname != NULL) {
        WideCharToMultiByte(CP_UTF8, 0, entry->ai_canonname, -1, name, INT_MAX, NULL, NULL);
        copy->ai_canonname = name;
    }
    if (entry->ai_next != NULL)
        copy->ai_next = (struct addrinfo *)(void *)(block + evli_addrinfo_size(entry));
}

/* Makes one block of a result, with narrow names. NULL: no memory. */
static struct addrinfo *evli_addrinfo_narrow(const ADDRINFOW *list) {
    const ADDRINFOW *entry;
    size_t size = 0;
    char *block, *at;
    for (entry = list; entry != NULL; entry = entry->ai_next)
        size += evli_addrinfo_size(entry);
    at = block = (char *)evli_malloc(size);
    for (entry = list; block != NULL && entry != NULL; entry = entry->ai_next) {
        evli_addrinfo_copy(entry, at);
        at += evli_addrinfo_size(entry);
    }
    return (struct addrinfo *)(void *)block;
}

static int evli_sys_getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
                                struct addrinfo **result) {
    WCHAR wide_host[256], wide_service[64];
    ADDRINFOW wide_hints, *list = NULL;
    int error = EVLOOP_FAULT("getaddrinfo"), err = evli_wsa_init();
    if (err != 0)
        return err;
    memset(&wide_hints, 0, sizeof(wide_hints));
    if (hints != NULL) {
        wide_hints.ai_flags = hints->ai_flags;
        wide_hints.ai_family = hints->ai_family;
        wide_hints.ai_socktype = hints->ai_socktype;
        wide_hints.ai_protocol = hints->ai_protocol;
    }
    if (host != NULL && MultiByteToWideChar(CP_UTF8, 0, host, -1, wide_host, 256) == 0)
        return EVL_ENAMETOOLONG;
    if (service != NULL && MultiByteToWideChar(CP_UTF8, 0, service, -1, wide_service, 64) == 0)
        return EVL_EAI_SERVICE;
    if (error == 0)
        error = GetAddrInfoW(host != NULL ? wide_host : NULL, service != NULL ? wide_service : NULL,
                             hints != NULL ? &wide_hints : NULL, &list);
    if (error != 0)
        return evli_eai_error(error);
    *result = evli_addrinfo_narrow(list);
    FreeAddrInfoW(list);
    return *result != NULL ? 0 : (int)EVL_EAI_MEMORY;
}

static void evli_sys_freeaddrinfo(struct addrinfo *result) {
    evli_free(result);
}

static int evli_sys_getnameinfo(const struct sockaddr *addr, char host[1025], char service[32],
                                int flags) {
    socklen_t len = addr->sa_family == AF_INET ? (socklen_t)sizeof(struct sockaddr_in)
                                               : (socklen_t)sizeof(struct sockaddr_in6);
    WCHAR wide_host[1025], wide_service[32];
    int error = EVLOOP_FAULT("getnameinfo"), err = evli_wsa_init();
    if (err != 0)
        return err;
    if (error == 0 && GetNameInfoW(addr, len, wide_host, 1025, wide_service, 32, flags) != 0)
        error = WSAGetLastError();
    if (error != 0)
        return evli_eai_error(error);
    if (WideCharToMultiByte(CP_UTF8, 0, wide_host, -1, host, 1025, NULL, NULL) == 0 ||
        WideCharToMultiByte(CP_UTF8, 0, wide_service, -1, service, 32, NULL, NULL) == 0)
        return EVL_EAI_OVERFLOW;
    return 0;
}

#endif /* !EVLOOP_NO_DNS */

/* Decodes the character at *at and moves on, or returns -1: that is no UTF-8. A surrogate, which stands
 * alone in names that Windows lets pass, is one like any other (WTF-8). */
static int32_t evli_wtf8_next(const char **at) {
    const unsigned char *s = (const unsigned char *)*at;
    uint32_t c = s[0];
    int i, more = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : 1;
    if (c < 0x80) {
        ++*at;
        return (int32_t)c;
    }
    if (c < 0xc2 || c > 0xf4)
        return -1;
    c &= 0x3fu >> more;
    for (i = 1; i <= more; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return -1;
        c = c << 6 | (s[i] & 0x3fu);
    }
    if (c > 0x10ffff || (more == 2 && c < 0x800) || (more == 3 && c < 0x10000))
        return -1;
    *at += more + 1;
    return (int32_t)c;
}

/* Turns text into UTF-16, without a zero at the end; `wide` NULL only counts. Returns how many units it
 * takes, or SIZE_MAX when it is no WTF-8: two surrogates that make a pair are one character there. */
EVLI_SPARE size_t evli_utf8_to_wide(const char *text, WCHAR *wide) {
    size_t n = 0;
    int32_t c, last = 0;
    for (; *text != '\0'; last = c) {
        c = evli_wtf8_next(&text);
        if (c < 0 || (c >= 0xdc00 && c <= 0xdfff && last >= 0xd800 && last <= 0xdbff))
            return SIZE_MAX;
        if (wide != NULL && c < 0x10000) {
            wide[n] = (WCHAR)c;
        } else if (wide != NULL) {
            wide[n] = (WCHAR)(0xd800 + ((c - 0x10000) >> 10));
            wide[n + 1] = (WCHAR)(0xdc00 + (c & 0x3ff));
        }
        n += c < 0x10000 ? 1 : 2;
    }
    return n;
}

/* … and back: returns the number of bytes. */
EVLI_SPARE size_t evli_wide_to_utf8(const WCHAR *wide, size_t length, char *text) {
    size_t i, n = 0;
    for (i = 0; i < length; i++) {
        uint32_t c = wide[i], low = i + 1 < length ? wide[i + 1] : 0u;
        char bytes[4];
        size_t size = c < 0x80 ? 1 : c < 0x800 ? 2 : 3;
        if (c >= 0xd800 && c <= 0xdbff && low >= 0xdc00 && low <= 0xdfff) {
            c = 0x10000 + ((c & 0x3ff) << 10) + (low & 0x3ff);
            size = 4;
            i++;
        }
        bytes[0] = (char)(size == 1 ? c : (0xf00u >> size & 0xf0) | c >> 6 * (size - 1));
        bytes[1] = (char)(0x80 | (c >> (size == 4 ? 12 : size == 3 ? 6 : 0) & 0x3f));
        bytes[2] = (char)(0x80 | (c >> (size == 4 ? 6 : 0) & 0x3f));
        bytes[3] = (char)(0x80 | (c & 0x3f));
        if (text != NULL)
            memcpy(text + n, bytes, size);
        n += size;
    }
    return n;
}

/* ---- The C library's descriptors ---- */

typedef void(__cdecl *evli_crt_handler_fn)(const wchar_t *, const wchar_t *, const wchar_t *,
                                           unsigned int, uintptr_t);

/* The C library ends the process when it is given a descriptor that is none, unless the thread has a
 * handler that returns. */
static void __cdecl evli_crt_ignore(const wchar_t *expression, const wchar_t *function,
                                    const wchar_t *file, unsigned int line, uintptr_t reserved) {
    (void)expression;
    (void)function;
    (void)file;
    (void)line;
    (void)reserved;
}

#if defined(_MSC_VER)

static evli_crt_handler_fn evli_crt_handle(evli_crt_handler_fn handler) {
    return _set_thread_local_invalid_parameter_handler(handler);
}

#else

typedef evli_crt_handler_fn(__cdecl *evli_crt_set_fn)(evli_crt_handler_fn);

/* The older library, msvcrt.dll, has no such handler, and goes on without. */
static evli_crt_handler_fn evli_crt_handle(evli_crt_handler_fn handler) {
    static evli_crt_set_fn set; /* all threads find the same */
    static uint32_t looked;     /* atomic */
    if (!evli_load(&looked)) {
        HMODULE crt = GetModuleHandleW(L"ucrtbase.dll");
        if (crt != NULL)
            set = (evli_crt_set_fn)(void (*)(void))GetProcAddress(
                crt, "_set_thread_local_invalid_parameter_handler");
        evli_store(&looked, 1);
    }
    return set != NULL ? set(handler) : NULL;
}

#endif

/* The handle of a descriptor, or INVALID_HANDLE_VALUE. */
EVLI_SPARE HANDLE evli_crt_get(int fd) {
    const intptr_t no_stdio = -2; /* of a descriptor up to 2 that leads nowhere */
    evli_crt_handler_fn saved;
    intptr_t handle;
    if (fd < 0)
        return INVALID_HANDLE_VALUE;
    saved = evli_crt_handle(evli_crt_ignore);
    handle = (intptr_t)_get_osfhandle(fd);
    evli_crt_handle(saved);
    return handle == no_stdio ? INVALID_HANDLE_VALUE : (HANDLE)handle;
}

EVLI_SPARE int evli_crt_close(int fd) {
    evli_crt_handler_fn saved = evli_crt_handle(evli_crt_ignore);
    int r = _close(fd);
    evli_crt_handle(saved);
    return r < 0 ? (int)EVL_EBADF : 0;
}

typedef LONG(WINAPI *evli_gen_random_fn)(void *, PUCHAR, ULONG, ULONG);

/* From bcrypt.dll, which is loaded when it is first needed. */
static int evli_sys_random(char *base, size_t len) {
    HMODULE bcrypt;
    evli_gen_random_fn gen_random;
    LONG status = -1;
    if (len == 0)
        return 0;
    bcrypt = LoadLibraryW(L"bcrypt.dll");
    if (bcrypt == NULL)
        return evli_win_error();
    gen_random = (evli_gen_random_fn)(void (*)(void))GetProcAddress(bcrypt, "BCryptGenRandom");
    if (gen_random != NULL)
        status = gen_random(NULL, (PUCHAR)base, (ULONG)len, 2 /* the system's own generator */);
    FreeLibrary(bcrypt);
    return status == 0 ? 0 : (int)EVL_EIO;
}

/* Two connected sockets: over loopback, and nobody else's, which the addresses prove. */
EVLI_SPARE int evli_sys_connect_pair(evl_os_sock_t listener, evl_os_sock_t out, evl_os_sock_t *in) {
    struct sockaddr_in own, peer;
    int len = sizeof(own), err;
    memset(&own, 0, sizeof(own));
    own.sin_family = AF_INET;
    own.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    err = evli_sys_bind(listener, (const struct sockaddr *)&own, sizeof(own));
    if (err == 0)
        err = evli_sys_name(listener, 0, (struct sockaddr *)&own, &len);
    if (err == 0)
        err = evli_sys_listen(listener, 1);
    if (err == 0)
        err = evli_sys_connect(out, (const struct sockaddr *)&own, sizeof(own));
    if (err == 0)
        err = evli_sys_accept(listener, in);
    if (err != 0)
        return err;
    len = sizeof(own);
    err = evli_sys_name(out, 0, (struct sockaddr *)&own, &len);
    len = sizeof(peer);
    if (err == 0)
        err = evli_sys_name(*in, 1, (struct sockaddr *)&peer, &len);
    if (err == 0 && own.sin_port != peer.sin_port)
        err = EVL_ECONNABORTED;
    if (err != 0)
        evli_sys_close_socket(*in);
    return err;
}

EVLOOP_API int evl_socketpair(int type, int protocol, evl_os_sock_t sockets[2], int flags0,
                              int flags1) {
    evl_os_sock_t listener, ends[2];
    int err;
    if (type != SOCK_STREAM)
        return EVL_ENOTSUP;
    err = evli_sys_socket(AF_INET, type, protocol, &listener);
    if (err != 0)
        return err;
    err = evli_sys_socket(AF_INET, type, protocol, &ends[0]);
    if (err == 0) {
        err = evli_sys_nonblock(listener, 0); /* connect and accept wait for each other here */
        if (err == 0)
            err = evli_sys_nonblock(ends[0], 0);
        if (err == 0)
            err = evli_sys_connect_pair(listener, ends[0], &ends[1]);
        if (err != 0)
            evli_sys_close_socket(ends[0]);
    }
    evli_sys_close_socket(listener);
    if (err != 0)
        return err;
    err = evli_sys_nonblock(ends[0], (flags0 & EVL_NONBLOCK_PIPE) != 0);
    if (err == 0)
        err = evli_sys_nonblock(ends[1], (flags1 & EVL_NONBLOCK_PIPE) != 0);
    if (err != 0) {
        evli_sys_close_socket(ends[0]);
        evli_sys_close_socket(ends[1]);
        return err;
    }
    sockets[0] = ends[0];
    sockets[1] = ends[1];
    return 0;
}

/* A named pipe that nobody else can name in time: its name holds the process and a count. */
static int evli_win_pipe(HANDLE *reader, HANDLE *writer, int read_flags, int write_flags) {
    static uint32_t count;
    char name[64];
    DWORD overlapped = read_flags & EVL_NONBLOCK_PIPE ? FILE_FLAG_OVERLAPPED : 0;
    snprintf(name, sizeof(name), "\\\\.\\pipe\\evloop-%lu-%lu", GetCurrentProcessId(),
             (unsigned long)evli_fetch_add(&count, 1));
    *reader =
        CreateNamedPipeA(name, PIPE_ACCESS_INBOUND | FILE_FLAG_FIRST_PIPE_INSTANCE | overlapped,
                         PIPE_TYPE_BYTE | PIPE_WAIT, 1, 65536, 65536, 0, NULL);
    if (*reader == INVALID_HANDLE_VALUE)
        return evli_win_error();
    overlapped = write_flags & EVL_NONBLOCK_PIPE ? FILE_FLAG_OVERLAPPED : 0;
    *writer = CreateFileA(name, GENERIC_WRITE | FILE_READ_ATTRIBUTES, 0, NULL, OPEN_EXISTING,
                          overlapped, NULL);
    if (*writer == INVALID_HANDLE_VALUE) {
        int err = evli_win_error();
        CloseHandle(*reader);
        return err;
    }
    return 0;
}

EVLOOP_API evl_os_fd_t evl_get_osfhandle(int fd) {
    return evli_crt_get(fd);
}

EVLOOP_API int evl_open_osfhandle(evl_os_fd_t os_fd) {
    return _open_osfhandle((intptr_t)os_fd, 0);
}

EVLOOP_API int evl_pipe(evl_file fds[2], int read_flags, int write_flags) {
    HANDLE reader, writer;
    int ends[2];
    int err = evli_win_pipe(&reader, &writer, read_flags, write_flags);
    if (err != 0)
        return err;
    ends[0] = _open_osfhandle((intptr_t)reader, _O_RDONLY);
    ends[1] = ends[0] < 0 ? -1 : _open_osfhandle((intptr_t)writer, 0);
    if (ends[1] < 0) {
        CloseHandle(writer);
        if (ends[0] < 0)
            CloseHandle(reader);
        else
            _close(ends[0]);
        return EVL_EMFILE;
    }
    fds[0] = ends[0];
    fds[1] = ends[1];
    return 0;
}

#endif /* _WIN32 */

/* ==== [SECTION] POSIX threads ==== */

#if !defined(_WIN32) && !defined(EVLOOP_NO_THREADS)

typedef struct {
    evl_thread_cb entry;
    void *arg;
} evli_thread_start_t;

static void *evli_thread_main(void *arg) {
    evli_thread_start_t start = *(evli_thread_start_t *)arg;
    evli_free(arg);
    start.entry(start.arg);
    return NULL;
}

EVLOOP_API int evl_thread_create(evl_thread_t *thread, evl_thread_cb entry, void *arg) {
    evl_thread_options_t options;
    options.flags = EVL_THREAD_NO_FLAGS;
    options.stack_size = 0;
    return evl_thread_create_ex(thread, &options, entry, arg);
}

#if defined(PTHREAD_STACK_MIN)
#define EVLI_THREAD_STACK_MIN ((size_t)PTHREAD_STACK_MIN)
#else
#define EVLI_THREAD_STACK_MIN ((size_t)sysconf(_SC_THREAD_STACK_MIN)) /* NetBSD */
#endif

/* The stack sizes that pthread takes: whole pages, and not too few. */
static size_t evli_thread_stack_size(size_t size) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t least = EVLI_THREAD_STACK_MIN;
    struct rlimit limit;
    if (size == 0) /* what the main thread has: musl, for one, gives others little */
        size = getrlimit(RLIMIT_STACK, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY
                   ? (size_t)limit.rlim_cur
                   : (size_t)8 << 20;
    size = (size + page - 1) & ~(page - 1);
    return size < least ? least : size;
}

EVLOOP_API int evl_thread_create_ex(evl_thread_t *thread, const evl_thread_options_t *options,
                                    evl_thread_cb entry, void *arg) {
    pthread_attr_t attr;
    evli_thread_start_t *start;
    int err;
    if (entry == NULL)
        return EVL_EINVAL;
    start = (evli_thread_start_t *)evli_malloc(sizeof(*start));
    if (start == NULL)
        return EVL_ENOMEM;
    start->entry = entry;
    start->arg = arg;
    err = pthread_attr_init(&attr);
    if (err == 0) {
        size_t stack = evli_thread_stack_size(
            options->flags & EVL_THREAD_HAS_STACK_SIZE ? options->stack_size : 0);
        do { /* glibc takes the program's thread-local variables out of the stack: it may need more */
            err = EVLOOP_FAULT("thread_create");
            if (err == 0)
                err = pthread_attr_setstacksize(&attr, stack);
            if (err == 0)
                err = pthread_create(thread, &attr, evli_thread_main, start);
            stack *= 2;
        } while (err == EINVAL && stack <= (size_t)1 << 20);
        pthread_attr_destroy(&attr);
    }
    if (err != 0)
        evli_free(start);
    return -err;
}

EVLOOP_API int evl_thread_join(evl_thread_t *thread) {
    return -pthread_join(*thread, NULL);
}

/* Signals are for the program's own threads: a thread that is made in between gets none but those
 * that tell it of its own faults. */
static void evli_block_signals(sigset_t *before) {
    static const int faults[] = {SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP};
    sigset_t blocked;
    size_t i;
    sigfillset(&blocked);
    for (i = 0; i < EVLI_COUNT(faults); i++)
        sigdelset(&blocked, faults[i]);
    pthread_sigmask(SIG_SETMASK, &blocked, before);
}

static int evli_worker_thread(evl_thread_t *thread, size_t stack_size, evl_thread_cb entry,
                              void *arg) {
    evl_thread_options_t options;
    sigset_t before;
    int err;
    options.flags = EVL_THREAD_HAS_STACK_SIZE;
    options.stack_size = stack_size;
    evli_block_signals(&before);
    err = evl_thread_create_ex(thread, &options, entry, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return err;
}

/* Names the calling thread, for debuggers. */
#if defined(__linux__)

static void evli_thread_name(const char *name) {
    pthread_setname_np(pthread_self(), name);
}

#elif defined(__APPLE__)

static void evli_thread_name(const char *name) {
    pthread_setname_np(name);
}

#elif defined(__FreeBSD__) || defined(__OpenBSD__)

static void evli_thread_name(const char *name) {
    pthread_set_name_np(pthread_self(), name);
}

#else

static void evli_thread_name(const char *name) {
    (void)name;
}

#endif

EVLOOP_API int evl_thread_detach(evl_thread_t *thread) {
    return -pthread_detach(*thread);
}

EVLOOP_API evl_thread_t evl_thread_self(void) {
    return pthread_self();
}

EVLOOP_API int evl_thread_equal(const evl_thread_t *a, const evl_thread_t *b) {
    return pthread_equal(*a, *b);
}

static int evli_mutex_init_kind(evl_mutex_t *mutex, int kind) {
    pthread_mutexattr_t attr;
    int err = pthread_mutexattr_init(&attr);
    if (err != 0)
        return -err;
    err = pthread_mutexattr_settype(&attr, kind);
    if (err == 0)
        err = pthread_mutex_init(mutex, &attr);
    pthread_mutexattr_destroy(&attr);
    return -err;
}

EVLOOP_API int evl_mutex_init(evl_mutex_t *mutex) {
    return -pthread_mutex_init(mutex, NULL);
}

EVLOOP_API int evl_mutex_init_recursive(evl_mutex_t *mutex) {
    return evli_mutex_init_kind(mutex, PTHREAD_MUTEX_RECURSIVE);
}

EVLOOP_API void evl_mutex_destroy(evl_mutex_t *mutex) {
    pthread_mutex_destroy(mutex);
}

EVLOOP_API void evl_mutex_lock(evl_mutex_t *mutex) {
    pthread_mutex_lock(mutex);
}

EVLOOP_API int evl_mutex_trylock(evl_mutex_t *mutex) {
    return -pthread_mutex_trylock(mutex);
}

EVLOOP_API void evl_mutex_unlock(evl_mutex_t *mutex) {
    pthread_mutex_unlock(mutex);
}

#if defined(__APPLE__)

/* Conditions know only the wall clock there, but can wait for a length of time. */
EVLOOP_API int evl_cond_init(evl_cond_t *cond) {
    return -pthread_cond_init(cond, NULL);
}

EVLOOP_API int evl_cond_timedwait(evl_cond_t *cond, evl_mutex_t *mutex, uint64_t timeout_ns) {
    struct timespec ts;
    uint64_t seconds = timeout_ns / EVLI_NS_PER_S;
    ts.tv_sec = (time_t)(seconds > INT_MAX ? INT_MAX : seconds);
    ts.tv_nsec = (long)(timeout_ns % EVLI_NS_PER_S);
    return -pthread_cond_timedwait_relative_np(cond, mutex, &ts);
}

#else

EVLOOP_API int evl_cond_init(evl_cond_t *cond) {
    pthread_condattr_t attr;
    int err = pthread_condattr_init(&attr);
    if (err != 0)
        return -err;
    err = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    if (err == 0)
        err = pthread_cond_init(cond, &attr);
    pthread_condattr_destroy(&attr);
    return -err;
}

EVLOOP_API int evl_cond_timedwait(evl_cond_t *cond, evl_mutex_t *mutex, uint64_t timeout_ns) {
    struct timespec ts;
    uint64_t end = evli_add_ns(evli_sys_clock(), timeout_ns);
    uint64_t seconds = end / EVLI_NS_PER_S;
    ts.tv_sec = (time_t)(seconds > INT_MAX ? INT_MAX : seconds); /* time_t may have 32 bits */
    ts.tv_nsec = (long)(end % EVLI_NS_PER_S);
    return -pthread_cond_timedwait(cond, mutex, &ts);
}

#endif

EVLOOP_API void evl_cond_destroy(evl_cond_t *cond) {
    pthread_cond_destroy(cond);
}

EVLOOP_API void evl_cond_signal(evl_cond_t *cond) {
    pthread_cond_signal(cond);
}

EVLOOP_API void evl_cond_broadcast(evl_cond_t *cond) {
    pthread_cond_broadcast(cond);
}

EVLOOP_API void evl_cond_wait(evl_cond_t *cond, evl_mutex_t *mutex) {
    pthread_cond_wait(cond, mutex);
}

EVLOOP_API void evl_once(evl_once_t *guard, void (*callback)(void)) {
    pthread_once(guard, callback);
}

EVLOOP_API int evl_key_create(evl_key_t *key) {
    return -pthread_key_create(key, NULL);
}

EVLOOP_API void evl_key_delete(evl_key_t *key) {
    pthread_key_delete(*key);
}

EVLOOP_API void *evl_key_get(evl_key_t *key) {
    return pthread_getspecific(*key);
}

EVLOOP_API void evl_key_set(evl_key_t *key, void *value) {
    pthread_setspecific(*key, value);
}

#if defined(__APPLE__)

/* Unnamed POSIX semaphores are missing there. */
EVLOOP_API int evl_sem_init(evl_sem_t *sem, unsigned int value) {
    return semaphore_create(mach_task_self(), sem, SYNC_POLICY_FIFO, (int)value) == KERN_SUCCESS
               ? 0
               : (int)EVL_ENOMEM;
}

EVLOOP_API void evl_sem_destroy(evl_sem_t *sem) {
    semaphore_destroy(mach_task_self(), *sem);
}

EVLOOP_API void evl_sem_post(evl_sem_t *sem) {
    semaphore_signal(*sem);
}

EVLOOP_API void evl_sem_wait(evl_sem_t *sem) {
    while (semaphore_wait(*sem) == KERN_ABORTED) {}
}

EVLOOP_API int evl_sem_trywait(evl_sem_t *sem) {
    mach_timespec_t none = {0, 0};
    kern_return_t r;
    do {
        r = semaphore_timedwait(*sem, none);
    } while (r == KERN_ABORTED);
    return r == KERN_SUCCESS ? 0 : (int)EVL_EAGAIN;
}

#else

EVLOOP_API int evl_sem_init(evl_sem_t *sem, unsigned int value) {
    return sem_init(sem, 0, value) == 0 ? 0 : -errno;
}

EVLOOP_API void evl_sem_destroy(evl_sem_t *sem) {
    sem_destroy(sem);
}

EVLOOP_API void evl_sem_post(evl_sem_t *sem) {
    sem_post(sem);
}

EVLOOP_API void evl_sem_wait(evl_sem_t *sem) {
    while (sem_wait(sem) != 0 && errno == EINTR) {}
}

EVLOOP_API int evl_sem_trywait(evl_sem_t *sem) {
    int r;
    do {
        r = sem_trywait(sem);
    } while (r != 0 && errno == EINTR);
    return r == 0 ? 0 : -errno;
}

#endif

#endif /* !_WIN32 && !EVLOOP_NO_THREADS */

/* ==== [SECTION] Windows threads ==== */

#if defined(_WIN32) && !defined(EVLOOP_NO_THREADS)

typedef struct {
    evl_thread_cb entry;
    void *arg;
} evli_thread_start_t;

static unsigned __stdcall evli_thread_main(void *arg) {
    evli_thread_start_t start = *(evli_thread_start_t *)arg;
    evli_free(arg);
    start.entry(start.arg);
    return 0;
}

EVLOOP_API int evl_thread_create(evl_thread_t *thread, evl_thread_cb entry, void *arg) {
    evl_thread_options_t options;
    options.flags = EVL_THREAD_NO_FLAGS;
    options.stack_size = 0;
    return evl_thread_create_ex(thread, &options, entry, arg);
}

EVLOOP_API int evl_thread_create_ex(evl_thread_t *thread, const evl_thread_options_t *options,
                                    evl_thread_cb entry, void *arg) {
    size_t stack = options->flags & EVL_THREAD_HAS_STACK_SIZE ? options->stack_size : 0;
    evli_thread_start_t *start;
    uintptr_t handle;
    if (entry == NULL || stack > UINT_MAX)
        return EVL_EINVAL;
    start = (evli_thread_start_t *)evli_malloc(sizeof(*start));
    if (start == NULL)
        return EVL_ENOMEM;
    start->entry = entry;
    start->arg = arg;
    handle = EVLOOP_FAULT("thread_create")
                 ? 0
                 : _beginthreadex(NULL, (unsigned)stack, evli_thread_main, start,
                                  STACK_SIZE_PARAM_IS_A_RESERVATION, NULL);
    if (handle == 0) {
        evli_free(start);
        return EVL_EAGAIN;
    }
    *thread = (evl_thread_t)handle;
    return 0;
}

static int evli_worker_thread(evl_thread_t *thread, size_t stack_size, evl_thread_cb entry,
                              void *arg) {
    evl_thread_options_t options;
    options.flags = EVL_THREAD_HAS_STACK_SIZE;
    options.stack_size = stack_size;
    return evl_thread_create_ex(thread, &options, entry, arg);
}

typedef HRESULT(WINAPI *evli_thread_description_fn)(HANDLE, PCWSTR);

/* Names the calling thread, for debuggers, where the system can (Windows 10 1607). */
static void evli_thread_name(const char *name) {
    HMODULE kernel = GetModuleHandleW(L"kernel32.dll");
    evli_thread_description_fn describe;
    WCHAR wide[16];
    if (kernel == NULL || MultiByteToWideChar(CP_UTF8, 0, name, -1, wide, 16) == 0)
        return;
    describe =
        (evli_thread_description_fn)(void (*)(void))GetProcAddress(kernel, "SetThreadDescription");
    if (describe != NULL)
        describe(GetCurrentThread(), wide);
}

EVLOOP_API int evl_thread_join(evl_thread_t *thread) {
    if (WaitForSingleObject(*thread, INFINITE) != WAIT_OBJECT_0)
        return evli_win_error();
    CloseHandle(*thread);
    *thread = NULL;
    return 0;
}

EVLOOP_API int evl_thread_detach(evl_thread_t *thread) {
    if (!CloseHandle(*thread))
        return evli_win_error();
    *thread = NULL;
    return 0;
}

/* A handle that the thread keeps for itself, and that goes with the process. */
EVLOOP_API evl_thread_t evl_thread_self(void) {
    HANDLE self = NULL;
    DuplicateHandle(GetCurrentProcess(), GetCurrentThread(), GetCurrentProcess(), &self, 0, FALSE,
                    DUPLICATE_SAME_ACCESS);
    return self;
}

EVLOOP_API int evl_thread_equal(const evl_thread_t *a, const evl_thread_t *b) {
    return *a == *b || GetThreadId(*a) == GetThreadId(*b);
}

/* A slim lock, made recursive by its owner's name and a depth where that is wanted. */
enum { EVLI_MUTEX_RECURSIVE = 1 };

EVLOOP_API int evl_mutex_init(evl_mutex_t *mutex) {
    memset(mutex, 0, sizeof(*mutex));
    return 0;
}

EVLOOP_API int evl_mutex_init_recursive(evl_mutex_t *mutex) {
    memset(mutex, 0, sizeof(*mutex));
    mutex->recursive = EVLI_MUTEX_RECURSIVE;
    return 0;
}

EVLOOP_API void evl_mutex_destroy(evl_mutex_t *mutex) {
    (void)mutex;
}

EVLOOP_API void evl_mutex_lock(evl_mutex_t *mutex) {
    if (mutex->recursive && evli_load(&mutex->owner) == GetCurrentThreadId()) {
        mutex->depth++;
        return;
    }
    AcquireSRWLockExclusive((PSRWLOCK)&mutex->lock);
    if (mutex->recursive)
        evli_store(&mutex->owner, GetCurrentThreadId());
}

EVLOOP_API int evl_mutex_trylock(evl_mutex_t *mutex) {
    if (mutex->recursive && evli_load(&mutex->owner) == GetCurrentThreadId()) {
        mutex->depth++;
        return 0;
    }
    if (!TryAcquireSRWLockExclusive((PSRWLOCK)&mutex->lock))
        return EVL_EBUSY;
    if (mutex->recursive)
        evli_store(&mutex->owner, GetCurrentThreadId());
    return 0;
}

EVLOOP_API void evl_mutex_unlock(evl_mutex_t *mutex) {
    if (mutex->recursive && mutex->depth > 0) {
        mutex->depth--;
        return;
    }
    if (mutex->recursive)
        evli_store(&mutex->owner, 0);
    ReleaseSRWLockExclusive((PSRWLOCK)&mutex->lock);
}

EVLOOP_API int evl_cond_init(evl_cond_t *cond) {
    *cond = NULL;
    return 0;
}

EVLOOP_API void evl_cond_destroy(evl_cond_t *cond) {
    (void)cond;
}

EVLOOP_API void evl_cond_signal(evl_cond_t *cond) {
    WakeConditionVariable((PCONDITION_VARIABLE)cond);
}

EVLOOP_API void evl_cond_broadcast(evl_cond_t *cond) {
    WakeAllConditionVariable((PCONDITION_VARIABLE)cond);
}

EVLOOP_API void evl_cond_wait(evl_cond_t *cond, evl_mutex_t *mutex) {
    SleepConditionVariableSRW((PCONDITION_VARIABLE)cond, (PSRWLOCK)&mutex->lock, INFINITE, 0);
}

EVLOOP_API int evl_cond_timedwait(evl_cond_t *cond, evl_mutex_t *mutex, uint64_t timeout_ns) {
    uint64_t ms = timeout_ns / EVLI_NS_PER_MS + (timeout_ns % EVLI_NS_PER_MS != 0);
    DWORD timeout = ms >= INFINITE ? INFINITE - 1 : (DWORD)ms;
    if (SleepConditionVariableSRW((PCONDITION_VARIABLE)cond, (PSRWLOCK)&mutex->lock, timeout, 0))
        return 0;
    return GetLastError() == ERROR_TIMEOUT ? (int)EVL_ETIMEDOUT : evli_win_error();
}

static BOOL CALLBACK evli_once_main(PINIT_ONCE once, PVOID callback, PVOID *context) {
    (void)once;
    (void)context;
    (*(void (**)(void))callback)();
    return TRUE;
}

EVLOOP_API void evl_once(evl_once_t *guard, void (*callback)(void)) {
    InitOnceExecuteOnce((PINIT_ONCE)&guard->once, evli_once_main, (PVOID)&callback, NULL);
}

EVLOOP_API int evl_key_create(evl_key_t *key) {
    key->index = TlsAlloc();
    return key->index == TLS_OUT_OF_INDEXES ? (int)EVL_ENOMEM : 0;
}

EVLOOP_API void evl_key_delete(evl_key_t *key) {
    TlsFree(key->index);
}

EVLOOP_API void *evl_key_get(evl_key_t *key) {
    return TlsGetValue(key->index);
}

EVLOOP_API void evl_key_set(evl_key_t *key, void *value) {
    TlsSetValue(key->index, value);
}

EVLOOP_API int evl_sem_init(evl_sem_t *sem, unsigned int value) {
    *sem = CreateSemaphoreW(NULL, (LONG)value, LONG_MAX, NULL);
    return *sem == NULL ? evli_win_error() : 0;
}

EVLOOP_API void evl_sem_destroy(evl_sem_t *sem) {
    CloseHandle(*sem);
}

EVLOOP_API void evl_sem_post(evl_sem_t *sem) {
    ReleaseSemaphore(*sem, 1, NULL);
}

EVLOOP_API void evl_sem_wait(evl_sem_t *sem) {
    WaitForSingleObject(*sem, INFINITE);
}

EVLOOP_API int evl_sem_trywait(evl_sem_t *sem) {
    return WaitForSingleObject(*sem, 0) == WAIT_OBJECT_0 ? 0 : (int)EVL_EAGAIN;
}

#endif /* _WIN32 && !EVLOOP_NO_THREADS */

/* ==== [SECTION] Threads everywhere ==== */

#if !defined(EVLOOP_NO_THREADS)

/* What can be built of a mutex and a condition is built of them. */
static int evli_monitor_init(evl_mutex_t *mutex, evl_cond_t *cond) {
    int err = evl_mutex_init(mutex);
    if (err != 0)
        return err;
    err = evl_cond_init(cond);
    if (err != 0)
        evl_mutex_destroy(mutex);
    return err;
}

static void evli_monitor_destroy(evl_mutex_t *mutex, evl_cond_t *cond) {
    evl_cond_destroy(cond);
    evl_mutex_destroy(mutex);
}

EVLOOP_API int evl_rwlock_init(evl_rwlock_t *rwlock) {
    rwlock->readers = rwlock->writer = 0;
    return evli_monitor_init(&rwlock->mutex, &rwlock->cond);
}

EVLOOP_API void evl_rwlock_destroy(evl_rwlock_t *rwlock) {
    evli_monitor_destroy(&rwlock->mutex, &rwlock->cond);
}

EVLOOP_API void evl_rwlock_rdlock(evl_rwlock_t *rwlock) {
    evl_mutex_lock(&rwlock->mutex);
    while (rwlock->writer)
        evl_cond_wait(&rwlock->cond, &rwlock->mutex);
    rwlock->readers++;
    evl_mutex_unlock(&rwlock->mutex);
}

EVLOOP_API int evl_rwlock_tryrdlock(evl_rwlock_t *rwlock) {
    int busy;
    evl_mutex_lock(&rwlock->mutex);
    busy = rwlock->writer != 0;
    rwlock->readers += busy ? 0 : 1;
    evl_mutex_unlock(&rwlock->mutex);
    return busy ? EVL_EBUSY : 0;
}

EVLOOP_API void evl_rwlock_rdunlock(evl_rwlock_t *rwlock) {
    evl_mutex_lock(&rwlock->mutex);
    if (--rwlock->readers == 0)
        evl_cond_broadcast(&rwlock->cond);
    evl_mutex_unlock(&rwlock->mutex);
}

EVLOOP_API void evl_rwlock_wrlock(evl_rwlock_t *rwlock) {
    evl_mutex_lock(&rwlock->mutex);
    while (rwlock->writer || rwlock->readers > 0)
        evl_cond_wait(&rwlock->cond, &rwlock->mutex);
    rwlock->writer = 1;
    evl_mutex_unlock(&rwlock->mutex);
}

EVLOOP_API int evl_rwlock_trywrlock(evl_rwlock_t *rwlock) {
    int busy;
    evl_mutex_lock(&rwlock->mutex);
    busy = rwlock->writer || rwlock->readers > 0;
    if (!busy)
        rwlock->writer = 1;
    evl_mutex_unlock(&rwlock->mutex);
    return busy ? EVL_EBUSY : 0;
}

EVLOOP_API void evl_rwlock_wrunlock(evl_rwlock_t *rwlock) {
    evl_mutex_lock(&rwlock->mutex);
    rwlock->writer = 0;
    evl_cond_broadcast(&rwlock->cond);
    evl_mutex_unlock(&rwlock->mutex);
}

EVLOOP_API int evl_barrier_init(evl_barrier_t *barrier, unsigned int count) {
    if (count == 0)
        return EVL_EINVAL;
    barrier->threshold = count;
    barrier->arrived = barrier->inside = barrier->round = 0;
    return evli_monitor_init(&barrier->mutex, &barrier->cond);
}

/* Waits until the last round's threads have left, so that destroying is safe right after waiting. */
EVLOOP_API void evl_barrier_destroy(evl_barrier_t *barrier) {
    evl_mutex_lock(&barrier->mutex);
    while (barrier->inside > 0)
        evl_cond_wait(&barrier->cond, &barrier->mutex);
    evl_mutex_unlock(&barrier->mutex);
    evli_monitor_destroy(&barrier->mutex, &barrier->cond);
}

EVLOOP_API int evl_barrier_wait(evl_barrier_t *barrier) {
    unsigned int round;
    int last;
    evl_mutex_lock(&barrier->mutex);
    round = barrier->round;
    barrier->inside++;
    last = ++barrier->arrived == barrier->threshold;
    if (last) {
        barrier->arrived = 0;
        barrier->round++;
        evl_cond_broadcast(&barrier->cond);
    }
    while (round == barrier->round)
        evl_cond_wait(&barrier->cond, &barrier->mutex);
    if (--barrier->inside == 0)
        evl_cond_broadcast(&barrier->cond);
    evl_mutex_unlock(&barrier->mutex);
    return last;
}

#endif /* !EVLOOP_NO_THREADS */

/* ==== [SECTION] Backend contract ==== */

/* What a poller must do, for whoever writes the next one. A backend is one table of functions. It owns
 * loop->priv.poller and, in each evli_io_t, `key` and `armed`; it reports through evli_io_event.
 *
 * An evli_io_t is a descriptor that an engine (streams, poll handles) has an interest in. The engine
 * says what it waits for in `want`; the backend reports what has come about through evli_io_event,
 * which collects it in `ready` and queues the io. Nothing is called back from within `wait`: the
 * core runs the queue afterwards, so that no callback can meet a half-handled batch of events. The
 * engine then accepts, reads or writes, through the backend, until that says EVL_EAGAIN or takes the
 * bit out of `ready`; until then it does not ask to be told again.
 *
 *   init, destroy  Make and free the poller's state. init returns 0 or an error and leaves nothing.
 *   fork           In a forked child: replace what is shared with the parent, forget all
 *                  registrations; the core clears `armed` and calls watch again for each io.
 *   watch          `want` asks for bits that `armed` does not promise. Set `armed` to what will be
 *                  reported from now on: at least `want`, more at will, since what is not wanted is
 *                  only remembered. A backend whose reports are one-shot takes bits out of `armed`
 *                  as it reports them, or looks after them itself before each wait. An io of a kind
 *                  whose reports are level-triggered (EVLI_IO_POLL) has watch called whenever `want`
 *                  differs from `armed`, and its report repeated as long as the condition holds.
 *                  Returns 0 or an error, and then nothing is armed that was not before:
 *                  EVL_EEXIST for a descriptor that another io has.
 *   rest           Bits have left `want`. NULL where that is of no interest, as it is when the
 *                  kernel keeps what nobody fetches.
 *   forget         The io will not be used any more; armed becomes 0. With `closing`, its descriptor
 *                  is about to be closed and nobody else can hold it; else it must be out of the
 *                  kernel's set on return, because somebody may close it or use it elsewhere. An
 *                  event that is already under way for it, or for a later user of the same
 *                  descriptor number, must not reach this io: compare a generation kept in `key`.
 *   knows          Whether an io is registered for this descriptor.
 *   wait           Sleep until something happens, at most `timeout_ns` (0: do not sleep; EVLI_NEVER:
 *                  no limit), and report it. Returns the number of events, or an error. EVL_EINTR:
 *                  it came back before its time; the core looks whether there is something to do
 *                  and calls again.
 *   wake           Make `wait` return, now or the next time it is called. From any thread and from
 *                  signal handlers; errno is preserved.
 *   fd             A descriptor that is readable when `wait` would not sleep, or -1.
 *   accept, recv,  The engine's calls, made when a bit is in `ready`: the next connection; bytes into
 *   send           `buf`; bytes out of `bufs`. They return 0 or a count, or an error, of which
 *                  EVL_EAGAIN means that there is no more, and that the bit will be reported when
 *                  there is. They may take the bit out of `ready` when they know that there is no
 *                  more. NULL: the system's own calls; of accept, one call for each report of a
 *                  listener, which is level-triggered then.
 *
 * A kernel that completes operations (io_uring, overlapped I/O) fits this, because its results wait
 * with the backend until the engine fetches them. On paper:
 *
 *   - Multishot receive into a ring of buffers. watch with EVLI_IN submits it, once. Each completion
 *     is kept in order with its io and reported as EVLI_IN. recv hands out the oldest: with `lent`
 *     it points *buf into the ring and takes that buffer back at the next recv or wait, which is
 *     just how long the loop lends; else it copies, and keeps what does not fit. EVL_EAGAIN when
 *     none is left. rest cancels the receive, lest one stopped stream take the ring away from the
 *     others; what has come by then is fetched when reading goes on. accept is the same with
 *     multishot accept: rest at a limit, and forget closes what was not fetched.
 *   - send copies the array of buffers (the bytes stay where they are), submits, and returns
 *     EVL_EAGAIN; its completion is reported as EVLI_OUT, and the send that follows returns the
 *     count of that completion, whatever more it is passed. The head of the queue does not change
 *     meanwhile but in evli_writes_abort, which gives requests back to the user: there a backend
 *     with sends in flight needs one more function, that cancels them, and the requests a wait for
 *     its end, as in the close below. A stream that is set to block sends by the system's call.
 *   - evl_try_write is an ordinary nonblocking call, made only when nothing is queued, and so is
 *     connect, which waits for EVLI_OUT by a one-shot poll.
 *   - An overlapped read from a pipe: a zero-byte read is what watch submits, so that idle pipes
 *     hold no memory; its completion is EVLI_IN, and recv is a plain read of what is there.
 *     Overlapped writes are sends as above.
 *   - An operation in flight holds the descriptor and the buffers. forget cancels it and returns
 *     EVLI_HELD while the kernel still has something: the handle is then marked EVLI_H_HELD, and its
 *     close is not finished until the last completion calls evli_handle_released.
 *   - wake is a message to the ring or a posted completion. Poll handles are level-triggered polls. */

/* What an io waits for and what it is ready for. */
enum {
    EVLI_IN = 1,   /* readable, or a connection waits; the values are those of evl_poll_event */
    EVLI_OUT = 2,  /* writable, or connected */
    EVLI_HUP = 4,  /* the peer has shut down its side: a read will come to the end */
    EVLI_PRI = 8,  /* out-of-band data */
    EVLI_ERR = 16, /* the descriptor has failed */
    EVLI_FED = 32  /* not from the kernel: the engine has put something off until the next phase */
};

/* What a failed or hung-up descriptor is ready for: the calls that will tell why. */
#define EVLI_ALL (EVLI_IN | EVLI_OUT | EVLI_HUP | EVLI_PRI)

enum { EVLI_IO_STREAM, EVLI_IO_LISTENER, EVLI_IO_POLL, EVLI_IO_KINDS };

#define EVLI_HELD 1

typedef struct evli_backend_s {
    const char *name;
    int (*init)(evl_loop_t *loop);
    void (*destroy)(evl_loop_t *loop);
    int (*fork)(evl_loop_t *loop);
    int (*watch)(evl_loop_t *loop, evli_io_t *io);
    void (*rest)(evl_loop_t *loop, evli_io_t *io);
    int (*forget)(evl_loop_t *loop, evli_io_t *io, int closing);
    int (*knows)(const evl_loop_t *loop, evl_os_sock_t fd);
    int (*wait)(evl_loop_t *loop, uint64_t timeout_ns);
    void (*wake)(evl_loop_t *loop);
    int (*fd)(const evl_loop_t *loop);
    int (*accept)(evl_loop_t *loop, evli_io_t *io, evl_os_sock_t *sock);
    int64_t (*recv)(evl_loop_t *loop, evli_io_t *io, evl_buf_t *buf, size_t room, int lent);
    int64_t (*send)(evl_loop_t *loop, evli_io_t *io, const evl_buf_t *bufs, size_t nbufs,
                    int blocking);
} evli_backend_t;

/* Accepts one connection for each report, which comes again while there are more: to learn that there is
 * none left costs an accept that fails half of what one costs that does not. */
static inline int evli_io_accept(evl_loop_t *loop, evli_io_t *io, evl_os_sock_t *sock) {
    if (loop->priv.backend->accept != NULL)
        return loop->priv.backend->accept(loop, io, sock);
    io->ready &= (uint8_t)~EVLI_IN;
    return evli_sys_accept(io->fd, sock);
}

/* For a backend that reports only what is new. */
EVLI_SPARE int evli_accept_all(evl_loop_t *loop, evli_io_t *io, evl_os_sock_t *sock) {
    (void)loop;
    return evli_sys_accept(io->fd, sock);
}

/* A short read means that the kernel is empty, which saves asking; but not when the end has been
 * announced, nor once there has been urgent data: reads stop at its mark. */
static inline int64_t evli_io_recv(evl_loop_t *loop, evli_io_t *io, evl_buf_t *buf, size_t room,
                                   int lent) {
    int64_t n;
    if (loop->priv.backend->recv != NULL)
        return loop->priv.backend->recv(loop, io, buf, room, lent);
    n = evli_sys_recv(io->fd, buf->base, room);
    if (n > 0 && (size_t)n < room && !(io->ready & (EVLI_HUP | EVLI_PRI)))
        io->ready &= (uint8_t)~EVLI_IN;
    return n;
}

static inline int64_t evli_io_send(evl_loop_t *loop, evli_io_t *io, const evl_buf_t *bufs,
                                   size_t nbufs, int blocking) {
    int64_t n;
    int full;
    if (loop->priv.backend->send != NULL)
        return loop->priv.backend->send(loop, io, bufs, nbufs, blocking);
    n = evli_sys_send(io->fd, bufs, nbufs, blocking, &full);
    io->ready = (uint8_t)(full && !blocking ? io->ready & ~EVLI_OUT : io->ready | EVLI_OUT);
    return n;
}

static void evli_io_init(evli_io_t *io, int kind, evl_os_sock_t fd) {
    memset(io, 0, sizeof(*io));
    io->kind = (uint8_t)kind;
    io->fd = fd;
}

/* Takes down what the kernel reported, and has the io run if somebody waits for it. */
static inline void evli_io_event(evl_loop_t *loop, evli_io_t *io, unsigned bits) {
    if (io->kind == EVLI_IO_POLL)
        bits &= io->want | EVLI_ERR;
    io->ready |= (uint8_t)bits;
    if ((io->ready & (io->want | EVLI_ERR)) && io->want != 0 && io->link.next == NULL)
        evli_list_push(&loop->priv.ready, &io->link);
}

/* Has the io run in the next pending phase, for something that has happened already. */
static inline void evli_io_feed(evl_loop_t *loop, evli_io_t *io) {
    io->ready |= EVLI_FED;
    if (io->link.next == NULL)
        evli_list_push(&loop->priv.pending, &io->link);
}

/* Sets what the engine waits for. Costs a system call only when the kernel has not been asked. */
static int evli_io_want(evl_loop_t *loop, evli_io_t *io, unsigned want) {
    int exact = io->kind == EVLI_IO_POLL;
    unsigned before = io->want;
    int err;
    io->want = (uint8_t)want;
    if (exact ? want != io->armed : (want & ~(unsigned)io->armed) != 0) {
        err = loop->priv.backend->watch(loop, io);
        if (err != 0) {
            io->want = (uint8_t)before;
            return err;
        }
    }
    if ((io->ready & want) && !exact && io->link.next == NULL)
        evli_list_push(&loop->priv.ready, &io->link);
    return 0;
}

/* The engine does not wait for `bits` any more. */
EVLI_SPARE void evli_io_rest(evl_loop_t *loop, evli_io_t *io, unsigned bits) {
    io->want &= (uint8_t)~bits;
    if (loop->priv.backend->rest != NULL)
        loop->priv.backend->rest(loop, io);
}

static int evli_io_forget(evl_loop_t *loop, evli_io_t *io, int closing) {
    evli_list_remove(&io->link);
    io->want = io->ready = 0;
    return io->armed ? loop->priv.backend->forget(loop, io, closing) : 0;
}

/* ==== [SECTION] Descriptor table ==== */

#if !defined(_WIN32)

/* What the pollers for POSIX systems share: EVL_LOOP_BLOCK_SIGNAL, and finding ios by descriptor. */
#if EVLI_HAVE_PPOLL

/* The signal mask for a sleep, or NULL for none of its own. */
static sigset_t *evli_sleep_mask(const evl_loop_t *loop, sigset_t *mask) {
    if (loop->priv.signal == 0)
        return NULL;
    pthread_sigmask(SIG_SETMASK, NULL, mask);
    sigaddset(mask, loop->priv.signal);
    return mask;
}

#endif

#if EVLI_HAVE_KQUEUE || !EVLI_HAVE_PPOLL

/* Where the sleep takes no mask, the signal is blocked around it. Keeps errno. */
static void evli_sleep_block(const evl_loop_t *loop, sigset_t *before) {
    sigset_t blocked;
    if (loop->priv.signal == 0)
        return;
    sigemptyset(&blocked);
    sigaddset(&blocked, loop->priv.signal);
    pthread_sigmask(SIG_BLOCK, &blocked, before);
}

static void evli_sleep_unblock(const evl_loop_t *loop, const sigset_t *before) {
    if (loop->priv.signal != 0)
        pthread_sigmask(SIG_SETMASK, before, NULL);
}

#endif

#if EVLI_HAVE_EPOLL || EVLI_HAVE_KQUEUE

typedef struct {
    evli_io_t **ios; /* by descriptor */
    uint32_t count;
} evli_table_t;

static int evli_table_knows(const evli_table_t *table, int fd) {
    return fd >= 0 && (uint32_t)fd < table->count && table->ios[fd] != NULL;
}

/* Gives an io its place. Errors: EVL_EEXIST (another io has it), EVL_ENOMEM. */
static int evli_table_enter(evli_table_t *table, evli_io_t *io) {
    uint32_t fd = (uint32_t)io->fd, room = table->count;
    if (fd >= room) {
        evli_io_t **ios = (evli_io_t **)evli_grow(table->ios, &room, fd + 1, sizeof(evli_io_t *));
        if (ios == NULL)
            return EVL_ENOMEM;
        memset(ios + table->count, 0, (room - table->count) * sizeof(evli_io_t *));
        table->ios = ios;
        table->count = room;
    }
    if (table->ios[fd] != NULL && table->ios[fd] != io)
        return EVL_EEXIST;
    table->ios[fd] = io;
    return 0;
}

static void evli_table_leave(evli_table_t *table, const evli_io_t *io) {
    table->ios[io->fd] = NULL;
}

static void evli_table_clear(evli_table_t *table) {
    if (table->count > 0)
        memset(table->ios, 0, table->count * sizeof(table->ios[0]));
}

#endif

#endif /* !_WIN32 */

/* ==== [SECTION] Backend epoll ==== */

#if EVLI_HAVE_EPOLL

/* Edge-triggered, each descriptor registered once; the interest only ever grows (a socket that is
 * never short of room never asks for EPOLLOUT). Quirks that this section answers:
 *  - A registration belongs to the open file, not to the descriptor: it outlives close() while a
 *    duplicate or a forked child holds the file, and reports under a number that may be somebody
 *    else's by then. Hence the generation in each event.
 *  - A level-triggered one that was left behind like this cannot be removed any more, for that takes
 *    the closed descriptor, and would keep the loop from ever sleeping. When events for nobody come
 *    again and again, a new set is built.
 *  - tcc does not see glibc's packed attribute on struct epoll_event. Hence a twin of our own.
 *  - epoll_wait counts milliseconds; epoll_pwait2 (Linux 5.11) nanoseconds. Its timespec has 64-bit
 *    fields on every machine. */
#if defined(__x86_64__)
#pragma pack(push, 1)
#endif
typedef struct {
    uint32_t events;
    uint64_t data; /* the descriptor, and above it the generation */
} evli_epoll_event_t;
#if defined(__x86_64__)
#pragma pack(pop)
#endif

#define EVLI_EPOLL_BATCH 512
#define EVLI_EPOLL_STALE 8          /* events for nobody until a new set is built */
#define EVLI_EPOLL_WAKE  UINT64_MAX /* the data of the wake-up descriptor */

typedef struct {
    int epfd;
    int wakefd; /* an eventfd, edge-triggered and never read: a write is an edge */
    uint32_t generation;
    uint32_t stale; /* events for nobody since the set was built */
    int lent;       /* somebody may wait for epfd itself: it must stay */
    evli_table_t table;
    evli_epoll_event_t events[EVLI_EPOLL_BATCH];
} evli_epoll_t;

typedef struct {
    int64_t seconds;
    int64_t nanoseconds;
} evli_epoll_timeout_t;

static uint32_t evli_epoll_no_pwait2; /* atomic: the kernel has said that it has none */

static evli_epoll_t *evli_epoll_of(const evl_loop_t *loop) {
    return (evli_epoll_t *)loop->priv.poller;
}

static int evli_epoll_ctl(int epfd, int op, int fd, uint32_t events, uint64_t data) {
    evli_epoll_event_t event;
    int r, fault = EVLOOP_FAULT("epoll_ctl");
    memset(&event, 0, sizeof(event)); /* the padding, too: valgrind looks at it */
    event.events = events;
    event.data = data;
    r = fault ? evli_fail(fault) : epoll_ctl(epfd, op, fd, (struct epoll_event *)(void *)&event);
    return r < 0 ? -errno : 0;
}

/* Opens the two descriptors of a poller. */
static int evli_epoll_open(evli_epoll_t *poller) {
    int err, fault = EVLOOP_FAULT("epoll_create");
    poller->epfd = fault ? evli_fail(fault) : epoll_create1(EPOLL_CLOEXEC);
    if (poller->epfd < 0)
        return -errno;
    fault = EVLOOP_FAULT("eventfd");
    poller->wakefd = fault ? evli_fail(fault) : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    err = poller->wakefd < 0 ? -errno : 0;
    if (err == 0)
        err = evli_epoll_ctl(poller->epfd, EPOLL_CTL_ADD, poller->wakefd,
                             (uint32_t)EPOLLIN | (uint32_t)EPOLLET, EVLI_EPOLL_WAKE);
    if (err == 0)
        return 0;
    evli_sys_close(poller->epfd);
    if (poller->wakefd >= 0)
        evli_sys_close(poller->wakefd);
    return err;
}

static int evli_epoll_init(evl_loop_t *loop) {
    evli_epoll_t *poller = (evli_epoll_t *)evli_malloc(sizeof(*poller));
    int err;
    if (poller == NULL)
        return EVL_ENOMEM;
    memset(poller, 0, sizeof(*poller));
    err = evli_epoll_open(poller);
    if (err != 0) {
        evli_free(poller);
        return err;
    }
    loop->priv.poller = poller;
    return 0;
}

static void evli_epoll_destroy(evl_loop_t *loop) {
    evli_epoll_t *poller = evli_epoll_of(loop);
    evli_sys_close(poller->epfd);
    evli_sys_close(poller->wakefd);
    evli_free(poller->table.ios);
    evli_free(poller);
}

static int evli_epoll_fork(evl_loop_t *loop) {
    evli_epoll_t *poller = evli_epoll_of(loop);
    int epfd = poller->epfd, wakefd = poller->wakefd;
    int err = evli_epoll_open(poller);
    if (err != 0) {
        poller->epfd = epfd;
        poller->wakefd = wakefd;
        return err;
    }
    evli_sys_close(epfd);
    evli_sys_close(wakefd);
    evli_table_clear(&poller->table);
    return 0;
}

static int evli_epoll_knows(const evl_loop_t *loop, evl_os_sock_t fd) {
    return evli_table_knows(&evli_epoll_of(loop)->table, fd);
}

static uint32_t evli_epoll_mask(const evli_io_t *io, unsigned bits) {
    uint32_t mask = 0;
    if (bits & EVLI_IN)
        mask |= (uint32_t)EPOLLIN;
    if (bits & EVLI_OUT)
        mask |= (uint32_t)EPOLLOUT;
    if ((bits & EVLI_PRI) || io->kind == EVLI_IO_STREAM)
        mask |= (uint32_t)EPOLLPRI;
    if ((bits & EVLI_HUP) || io->kind == EVLI_IO_STREAM)
        mask |= (uint32_t)EPOLLRDHUP;
    if (io->kind == EVLI_IO_STREAM)
        mask |= (uint32_t)EPOLLET;
    return mask;
}

static int evli_epoll_watch(evl_loop_t *loop, evli_io_t *io) {
    evli_epoll_t *poller = evli_epoll_of(loop);
    unsigned bits = io->kind == EVLI_IO_POLL ? io->want : (unsigned)(io->want | io->armed);
    int err = 0, op = io->armed ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    uint64_t data;
    if (io->armed == 0) {
        err = evli_table_enter(&poller->table, io);
        if (err != 0)
            return err;
        io->key = ++poller->generation;
    }
    data = (uint64_t)io->key << 32 | (uint32_t)io->fd;
    err = evli_epoll_ctl(poller->epfd, op, io->fd, evli_epoll_mask(io, bits), data);
    /* The number can have come to mean another file since, or this file have been here before. */
    if (err == EVL_ENOENT && op == EPOLL_CTL_MOD)
        err = evli_epoll_ctl(poller->epfd, EPOLL_CTL_ADD, io->fd, evli_epoll_mask(io, bits), data);
    else if (err == EVL_EEXIST && op == EPOLL_CTL_ADD)
        err = evli_epoll_ctl(poller->epfd, EPOLL_CTL_MOD, io->fd, evli_epoll_mask(io, bits), data);
    if (err == 0)
        io->armed = (uint8_t)bits;
    else if (io->armed == 0)
        evli_table_leave(&poller->table, io);
    return err;
}

/* What a listener rests from would be reported again and again. EVLI_ERR, which need not be asked for,
 * stays armed: the descriptor is still in the set. */
static void evli_epoll_rest(evl_loop_t *loop, evli_io_t *io) {
    if (io->kind != EVLI_IO_LISTENER || (io->want & EVLI_IN) || !(io->armed & EVLI_IN))
        return;
    if (evli_epoll_ctl(evli_epoll_of(loop)->epfd, EPOLL_CTL_MOD, io->fd, 0,
                       (uint64_t)io->key << 32 | (uint32_t)io->fd) == 0)
        io->armed = EVLI_ERR;
}

static int evli_epoll_forget(evl_loop_t *loop, evli_io_t *io, int closing) {
    evli_epoll_t *poller = evli_epoll_of(loop);
    if (!closing)
        evli_epoll_ctl(poller->epfd, EPOLL_CTL_DEL, io->fd, 0, 0);
    evli_table_leave(&poller->table, io);
    io->armed = 0;
    return 0;
}

static unsigned evli_epoll_rare_bits(uint32_t events) {
    unsigned bits = 0;
    if (events & (uint32_t)EPOLLIN)
        bits |= EVLI_IN;
    if (events & (uint32_t)EPOLLOUT)
        bits |= EVLI_OUT;
    if (events & (uint32_t)EPOLLPRI)
        bits |= EVLI_PRI;
    if (events & (uint32_t)EPOLLRDHUP)
        bits |= EVLI_IN | EVLI_HUP;
    if (events & ((uint32_t)EPOLLHUP | (uint32_t)EPOLLERR))
        bits |= EVLI_ALL;
    if ((events & (uint32_t)EPOLLERR) && !(events & (uint32_t)EPOLLPRI)) /* sysfs reports both */
        bits |= EVLI_ERR;
    return bits;
}

static inline unsigned evli_epoll_bits(uint32_t events) {
    if (EVLI_LIKELY(events == (uint32_t)EPOLLIN))
        return EVLI_IN;
    return evli_epoll_rare_bits(events);
}

/* One call of the wait that fits: without a signal mask and to the millisecond, or else with. */
static int evli_epoll_sleep(evl_loop_t *loop, evli_epoll_t *poller, uint64_t timeout_ns) {
    struct epoll_event *events = (struct epoll_event *)(void *)poller->events;
    uint64_t ms = timeout_ns / EVLI_NS_PER_MS + (timeout_ns % EVLI_NS_PER_MS != 0);
    int timeout = timeout_ns == EVLI_NEVER ? -1 : ms > INT_MAX ? INT_MAX : (int)ms;
    int fault = EVLOOP_FAULT("epoll_wait");
    evli_epoll_timeout_t ts;
    sigset_t blocked, *mask = evli_sleep_mask(loop, &blocked);
    long n;
    if (fault)
        return evli_fail(fault);
    if (timeout > 0 && timeout_ns % EVLI_NS_PER_MS != 0 && !evli_load(&evli_epoll_no_pwait2)) {
        ts.seconds = (int64_t)(timeout_ns / EVLI_NS_PER_S);
        ts.nanoseconds = (int64_t)(timeout_ns % EVLI_NS_PER_S);
        fault = EVLOOP_FAULT("epoll_pwait2");
        n = fault ? evli_fail(fault)
                  : syscall(EVLI_SYS_EPOLL_PWAIT2, poller->epfd, events, EVLI_EPOLL_BATCH, &ts,
                            mask, (size_t)8);
        if (n >= 0 || (errno != ENOSYS && errno != EPERM))
            return (int)n;
        evli_store(&evli_epoll_no_pwait2, 1);
    }
    if (mask == NULL)
        return epoll_wait(poller->epfd, events, EVLI_EPOLL_BATCH, timeout);
    return epoll_pwait(poller->epfd, events, EVLI_EPOLL_BATCH, timeout, mask);
}

static inline int evli_epoll_look(evli_epoll_t *poller) {
    struct epoll_event *events = (struct epoll_event *)(void *)poller->events;
    int fault = EVLOOP_FAULT("epoll_wait");
    return fault ? evli_fail(fault) : epoll_wait(poller->epfd, events, EVLI_EPOLL_BATCH, 0);
}

/* Replaces the set, under the same descriptor, by one that holds what the table holds. Without
 * descriptors or memory to spare, the old one stays for now. */
static void evli_epoll_rebuild(evli_epoll_t *poller) {
    uint32_t fd;
    int err, fault = EVLOOP_FAULT("epoll_create");
    int epfd = fault ? evli_fail(fault) : epoll_create1(EPOLL_CLOEXEC);
    if (epfd < 0)
        return;
    err = evli_epoll_ctl(epfd, EPOLL_CTL_ADD, poller->wakefd, (uint32_t)EPOLLIN | (uint32_t)EPOLLET,
                         EVLI_EPOLL_WAKE);
    for (fd = 0; fd < poller->table.count && err == 0; fd++) {
        const evli_io_t *io = poller->table.ios[fd];
        if (io != NULL)
            err = evli_epoll_ctl(epfd, EPOLL_CTL_ADD, io->fd, evli_epoll_mask(io, io->armed),
                                 (uint64_t)io->key << 32 | fd);
        if (err == EVL_EBADF || err == EVL_EPERM) /* closed behind our back */
            err = 0;
    }
    if (err == 0 && dup3(epfd, poller->epfd, O_CLOEXEC) >= 0)
        poller->stale = 0;
    evli_sys_close(epfd);
}

static int evli_epoll_wait(evl_loop_t *loop, uint64_t timeout_ns) {
    evli_epoll_t *poller = evli_epoll_of(loop);
    int i, n, woken = 0;
    if (poller->stale >= EVLI_EPOLL_STALE && !poller->lent)
        evli_epoll_rebuild(poller);
    n = timeout_ns == 0 ? evli_epoll_look(poller) : evli_epoll_sleep(loop, poller, timeout_ns);
    if (n < 0)
        return -errno;
    for (i = 0; i < n; i++) {
        uint64_t data = poller->events[i].data;
        uint32_t fd = (uint32_t)data;
        evli_io_t *io = fd < poller->table.count ? poller->table.ios[fd] : NULL;
        if (io != NULL && io->key == data >> 32)
            evli_io_event(loop, io, evli_epoll_bits(poller->events[i].events));
        else if (data == EVLI_EPOLL_WAKE) /* what woke the loop is counted when it runs */
            woken++;
        else
            poller->stale++;
    }
    return n - woken;
}

static void evli_epoll_wake(evl_loop_t *loop) {
    uint64_t one = 1;
    int saved = errno;
    ssize_t n;
    do {
        int fault = EVLOOP_FAULT("wake");
        n = fault ? evli_fail(fault) : write(evli_epoll_of(loop)->wakefd, &one, sizeof(one));
    } while (n < 0 && errno == EINTR);
    errno = saved;
}

static int evli_epoll_fd(const evl_loop_t *loop) {
    evli_epoll_of(loop)->lent = 1;
    return evli_epoll_of(loop)->epfd;
}

static const evli_backend_t evli_backend_epoll = {
    "epoll",
    evli_epoll_init,
    evli_epoll_destroy,
    evli_epoll_fork,
    evli_epoll_watch,
    evli_epoll_rest,
    evli_epoll_forget,
    evli_epoll_knows,
    evli_epoll_wait,
    evli_epoll_wake,
    evli_epoll_fd,
    NULL,
    NULL,
    NULL,
};

#endif /* EVLI_HAVE_EPOLL */

/* ==== [SECTION] Backend kqueue ==== */

#if EVLI_HAVE_KQUEUE

/* macOS and the BSDs: one filter for each direction, edge-triggered (EV_CLEAR) but for poll handles.
 * What differs from epoll:
 *  - A filter is identified by its number and its kind together: process 7 is not descriptor 7. An
 *    event is told apart by its filter, and its udata is the io itself, since closing a descriptor
 *    takes its filters along: nothing stale can come. (libkqueue on Linux does not do the latter:
 *    there they are deleted first.)
 *  - Changes are submitted one at a time without room for events, so that an error is the call's
 *    errno and cannot be lost among the events.
 *  - A hang-up is a flag of either direction's filter; without interest in reading there is none.
 *  - An event says how many bytes wait, which an io keeps in `key`: a short read has emptied the kernel
 *    when it got that many, and has stopped at a mark of urgent data when not. */
#if defined(EVFILT_USER)
#define EVLI_HAVE_EVFILT_USER 1
#else
#define EVLI_HAVE_EVFILT_USER 0
#endif

#define EVLI_EVFILT_NONE (-1000) /* NetBSD's count from 0, the others' down from -1 */

#if defined(EVFILT_EXCEPT) && defined(NOTE_OOB)
#define EVLI_EVFILT_EXCEPT EVFILT_EXCEPT
#define EVLI_NOTE_OOB      NOTE_OOB
#else
#define EVLI_EVFILT_EXCEPT EVLI_EVFILT_NONE /* urgent data is not reported */
#define EVLI_NOTE_OOB      0
#endif

#if defined(NOTE_LOWAT) && !defined(EVLOOP_USE_KQUEUE)
#define EVLI_NOTE_LOWAT NOTE_LOWAT
#else
#define EVLI_NOTE_LOWAT 0
#endif

#if defined(EVLOOP_USE_KQUEUE)
#define EVLI_KQUEUE_CLOSE_DELETES 0
#else
#define EVLI_KQUEUE_CLOSE_DELETES 1
#endif

#if defined(__NetBSD__)
#define EVLI_KEVENT_FILTER uint32_t
#define EVLI_KEVENT_FLAGS  uint32_t
#else
#define EVLI_KEVENT_FILTER short
#define EVLI_KEVENT_FLAGS  unsigned short
#endif

#if defined(__NetBSD__) && __NetBSD_Version__ < 1000000000
typedef intptr_t evli_kevent_udata_t;
#else
typedef void *evli_kevent_udata_t;
#endif

#define EVLI_KEVENT_MAX_S (365 * 24 * 3600) /* macOS refuses much longer timeouts */
#define EVLI_KQUEUE_BATCH 256

typedef struct {
    int kq;
    int wake[2]; /* a pipe where there is no EVFILT_USER, else -1 */
    evli_table_t table;
    struct kevent events[EVLI_KQUEUE_BATCH];
} evli_kqueue_t;

static evli_kqueue_t *evli_kqueue_of(const evl_loop_t *loop) {
    return (evli_kqueue_t *)loop->priv.poller;
}

/* Submits one change. */
static int evli_kqueue_change(int kq, uintptr_t ident, int filter, int flags, unsigned fflags,
                              int data, void *udata) {
    struct kevent change;
    int r, fault;
    EV_SET(&change, ident, (EVLI_KEVENT_FILTER)filter, (EVLI_KEVENT_FLAGS)flags, fflags, data,
           (evli_kevent_udata_t)udata);
    do {
        fault = EVLOOP_FAULT("kevent_change");
        r = fault ? evli_fail(fault) : kevent(kq, &change, 1, NULL, 0, NULL);
    } while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : 0;
}

#if EVLI_HAVE_EVFILT_USER

static int evli_kqueue_arm_wake(evli_kqueue_t *poller) {
    poller->wake[0] = poller->wake[1] = -1;
    return evli_kqueue_change(poller->kq, 0, EVFILT_USER, EV_ADD | EV_CLEAR, 0, 0, NULL);
}

static int evli_kqueue_trigger(evli_kqueue_t *poller) {
    return evli_kqueue_change(poller->kq, 0, EVFILT_USER, 0, NOTE_TRIGGER, 0, NULL);
}

#else

static int evli_kqueue_arm_wake(evli_kqueue_t *poller) {
    int err = evl_pipe(poller->wake, EVL_NONBLOCK_PIPE, EVL_NONBLOCK_PIPE);
    if (err != 0)
        return err;
    return evli_kqueue_change(poller->kq, (uintptr_t)poller->wake[0], EVFILT_READ,
                              EV_ADD | EV_CLEAR, 0, 0, NULL);
}

/* EAGAIN: it is full, and the loop awake soon. */
static int evli_kqueue_trigger(evli_kqueue_t *poller) {
    return write(poller->wake[1], "", 1) < 0 ? -errno : 0;
}

#endif

/* Empties the pipe that woke the loop. */
static void evli_kqueue_woken(const evli_kqueue_t *poller) {
    char sink[64];
    if (poller->wake[0] < 0)
        return;
    while (read(poller->wake[0], sink, sizeof(sink)) == (ssize_t)sizeof(sink)) {}
}

static void evli_kqueue_shut(int kq, const int wake[2]) {
    if (kq >= 0)
        evli_sys_close(kq);
    if (wake[0] >= 0) {
        evli_sys_close(wake[0]);
        evli_sys_close(wake[1]);
    }
}

static int evli_kqueue_open(evli_kqueue_t *poller) {
    int err, fault = EVLOOP_FAULT("kqueue");
    poller->wake[0] = poller->wake[1] = -1;
    poller->kq = fault ? evli_fail(fault) : kqueue();
    if (poller->kq < 0)
        return -errno;
    err = evli_sys_fcntl_add(poller->kq, F_GETFD, F_SETFD, FD_CLOEXEC);
    if (err == 0)
        err = evli_kqueue_arm_wake(poller);
    if (err != 0)
        evli_kqueue_shut(poller->kq, poller->wake);
    return err;
}

static int evli_kqueue_init(evl_loop_t *loop) {
    evli_kqueue_t *poller = (evli_kqueue_t *)evli_calloc(1, sizeof(*poller));
    int err;
    if (poller == NULL)
        return EVL_ENOMEM;
    err = evli_kqueue_open(poller);
    if (err != 0) {
        evli_free(poller);
        return err;
    }
    loop->priv.poller = poller;
    return 0;
}

static void evli_kqueue_destroy(evl_loop_t *loop) {
    evli_kqueue_t *poller = evli_kqueue_of(loop);
    evli_kqueue_shut(poller->kq, poller->wake);
    evli_free(poller->table.ios);
    evli_free(poller);
}

/* A kqueue does not pass through fork: its number is free in the child, or somebody else's. */
static int evli_kqueue_fork(evl_loop_t *loop) {
    evli_kqueue_t *poller = evli_kqueue_of(loop);
    int wake[2] = {poller->wake[0], poller->wake[1]};
    int err = evli_kqueue_open(poller);
    if (err != 0) {
        poller->kq = -1;
        poller->wake[0] = wake[0];
        poller->wake[1] = wake[1];
        return err;
    }
    evli_kqueue_shut(-1, wake);
    evli_table_clear(&poller->table);
    return 0;
}

static int evli_kqueue_knows(const evl_loop_t *loop, evl_os_sock_t fd) {
    return evli_table_knows(&evli_kqueue_of(loop)->table, fd);
}

/* The bits that one filter serves. That of EVLI_IN tells of the hang-up too. */
static const unsigned evli_kqueue_groups[] = {EVLI_IN | EVLI_HUP, EVLI_OUT, EVLI_PRI};
static const int evli_kqueue_filters[] = {EVFILT_READ, EVFILT_WRITE, EVLI_EVFILT_EXCEPT};

/* The bits of one group, as far as they make a difference to its filter. */
static unsigned evli_kqueue_part(unsigned bits, size_t group) {
    bits &= evli_kqueue_groups[group];
    return bits & EVLI_IN ? (unsigned)EVLI_IN : bits;
}

static void evli_kqueue_delete(const evl_loop_t *loop, const evli_io_t *io, size_t group) {
    evli_kqueue_change(evli_kqueue_of(loop)->kq, (uintptr_t)io->fd, evli_kqueue_filters[group],
                       EV_DELETE, 0, 0, NULL);
}

/* For the hang-up alone the filter is one of reading that waits for more than ever comes, where the
 * kernel takes that wish. Where it does not, each arrival wakes the loop, but only once: EV_CLEAR.
 * That of urgent data fires for any data on some (macOS, DragonFly): the same.
 * One for writing into a pipe that nobody reads is refused by some: that is an event. */
static int evli_kqueue_add(evl_loop_t *loop, evli_io_t *io, size_t group, unsigned part) {
    int level = io->kind == EVLI_IO_POLL && (part & (EVLI_IN | EVLI_OUT));
    unsigned fflags = part == EVLI_HUP ? EVLI_NOTE_LOWAT : part == EVLI_PRI ? EVLI_NOTE_OOB : 0;
    int err = evli_kqueue_change(evli_kqueue_of(loop)->kq, (uintptr_t)io->fd,
                                 evli_kqueue_filters[group], EV_ADD | (level ? 0 : EV_CLEAR),
                                 fflags, part == EVLI_HUP ? INT_MAX : 0, io);
    if (err != EVL_EPIPE)
        return err;
    evli_io_event(loop, io, EVLI_OUT | EVLI_HUP);
    return 0;
}

/* Replaces the filter of a group, for the bits `old`, by that for `part`. A filter keeps the flags it
 * was added with: one that is to be another is deleted first. One that is gone already, because the
 * descriptor was closed behind our back, is deleted well enough. */
static int evli_kqueue_swap(evl_loop_t *loop, evli_io_t *io, size_t group, unsigned old,
                            unsigned part) {
    if (evli_kqueue_filters[group] == EVLI_EVFILT_NONE)
        return 0;
    if (old != 0 && (old != part || !EVLI_KQUEUE_CLOSE_DELETES))
        evli_kqueue_delete(loop, io, group);
    return part != 0 ? evli_kqueue_add(loop, io, group, part) : 0;
}

/* Goes from the filters for the bits of `from` to those for `to`; on an error all is as before. For a
 * poll handle those that stay are added again: the descriptor may be another file's by now. */
static int evli_kqueue_set(evl_loop_t *loop, evli_io_t *io, unsigned from, unsigned to) {
    size_t i, tried;
    int err = 0;
    for (tried = 0; tried < EVLI_COUNT(evli_kqueue_filters) && err == 0; tried++) {
        unsigned old = evli_kqueue_part(from, tried), part = evli_kqueue_part(to, tried);
        if (part != 0 && (part != old || io->kind == EVLI_IO_POLL))
            err = evli_kqueue_swap(loop, io, tried, old, part);
    }
    for (i = 0; i < tried; i++) {
        unsigned old = evli_kqueue_part(from, i), part = evli_kqueue_part(to, i);
        if (err != 0)
            evli_kqueue_swap(loop, io, i, part, old);
        else if (part == 0)
            evli_kqueue_swap(loop, io, i, old, 0);
    }
    return err;
}

static int evli_kqueue_watch(evl_loop_t *loop, evli_io_t *io) {
    evli_kqueue_t *poller = evli_kqueue_of(loop);
    unsigned bits = io->kind == EVLI_IO_POLL ? io->want : (unsigned)(io->want | io->armed);
    int err = evli_table_enter(&poller->table, io);
    if (err != 0)
        return err;
    err = evli_kqueue_set(loop, io, io->armed, bits);
    if (err == 0)
        io->armed = (uint8_t)bits;
    else if (io->armed == 0)
        evli_table_leave(&poller->table, io);
    return err;
}

static int evli_kqueue_forget(evl_loop_t *loop, evli_io_t *io, int closing) {
    evli_kqueue_t *poller = evli_kqueue_of(loop);
    if (!closing || !EVLI_KQUEUE_CLOSE_DELETES)
        evli_kqueue_set(loop, io, io->armed, 0);
    evli_table_leave(&poller->table, io);
    io->armed = 0;
    return 0;
}

static unsigned evli_kqueue_bits(const struct kevent *event) {
    unsigned bits = 0;
    if (event->flags & EV_ERROR)
        return EVLI_ALL | EVLI_ERR;
    if (event->filter == EVFILT_READ)
        bits = EVLI_IN;
    else if (event->filter == EVFILT_WRITE)
        bits = EVLI_OUT;
    else
        bits = event->fflags & EVLI_NOTE_OOB ? EVLI_PRI : 0;
    if (event->flags & EV_EOF)
        bits |= event->filter == EVFILT_READ ? EVLI_HUP : 0;
    return bits;
}

/* What came through a poll handle's edge-triggered filter is reported as long as it holds: the end has
 * come for good, and a filter that is added again is looked at again. */
static void evli_kqueue_repeat(evl_loop_t *loop, evli_io_t *io, const struct kevent *event) {
    if (event->filter == EVFILT_READ && (event->flags & EV_EOF)) {
        evli_kqueue_delete(loop, io, 0);
        evli_kqueue_add(loop, io, 0, EVLI_IN);
    } else if (event->filter != EVFILT_READ && (event->fflags & EVLI_NOTE_OOB)) {
        evli_kqueue_add(loop, io, 2, EVLI_PRI);
    }
}

static void evli_kqueue_event(evl_loop_t *loop, const struct kevent *event) {
    evli_io_t *io = (evli_io_t *)event->udata;
    if (io->kind == EVLI_IO_POLL && (event->flags & EV_CLEAR))
        evli_kqueue_repeat(loop, io, event);
    if ((event->flags & EV_EOF) && event->fflags != 0 && io->kind == EVLI_IO_STREAM)
        io->error = -(int)event->fflags;
    if (event->filter == EVFILT_READ)
        io->key = (uint32_t)(event->data < INT_MAX ? event->data : INT_MAX);
    evli_io_event(loop, io, evli_kqueue_bits(event));
}

static int evli_kqueue_wait(evl_loop_t *loop, uint64_t timeout_ns) {
    evli_kqueue_t *poller = evli_kqueue_of(loop);
    struct timespec ts;
    sigset_t before;
    int i, n, woken = 0, fault = EVLOOP_FAULT("kevent");
    uint64_t seconds = timeout_ns / EVLI_NS_PER_S;
    ts.tv_sec = (time_t)(seconds > EVLI_KEVENT_MAX_S ? EVLI_KEVENT_MAX_S : seconds);
    ts.tv_nsec = (long)(timeout_ns % EVLI_NS_PER_S);
    evli_sleep_block(loop, &before);
    n = fault ? evli_fail(fault)
              : kevent(poller->kq, NULL, 0, poller->events, EVLI_KQUEUE_BATCH,
                       timeout_ns == EVLI_NEVER ? NULL : &ts);
    n = n < 0 ? -errno : n;
    evli_sleep_unblock(loop, &before);
    for (i = 0; i < n; i++) {
        const struct kevent *event = &poller->events[i];
        if (event->udata == (evli_kevent_udata_t)0) {
            evli_kqueue_woken(poller);
            woken++;
        } else {
            evli_kqueue_event(loop, event);
        }
    }
    return n - woken;
}

static void evli_kqueue_wake(evl_loop_t *loop) {
    int err, saved = errno;
    do {
        int fault = EVLOOP_FAULT("wake");
        err = fault ? -fault : evli_kqueue_trigger(evli_kqueue_of(loop));
    } while (err == EVL_EINTR);
    errno = saved;
}

static int evli_kqueue_fd(const evl_loop_t *loop) {
    return evli_kqueue_of(loop)->kq;
}

/* What ended the stream came with the event; libkqueue has taken it from the socket. */
static int64_t evli_kqueue_recv(evl_loop_t *loop, evli_io_t *io, evl_buf_t *buf, size_t room,
                                int lent) {
    int64_t n = evli_sys_recv(io->fd, buf->base, room);
    (void)loop;
    (void)lent;
    if (n > 0) {
        io->key -= n < io->key ? (uint32_t)n : io->key;
        if ((size_t)n < room && io->key == 0 && !(io->ready & EVLI_HUP))
            io->ready &= (uint8_t)~EVLI_IN;
    }
    if (n != 0 || io->error == 0)
        return n;
    n = io->error;
    io->error = 0;
    return n;
}

static const evli_backend_t evli_backend_kqueue = {
    "kqueue",
    evli_kqueue_init,
    evli_kqueue_destroy,
    evli_kqueue_fork,
    evli_kqueue_watch,
    NULL,
    evli_kqueue_forget,
    evli_kqueue_knows,
    evli_kqueue_wait,
    evli_kqueue_wake,
    evli_kqueue_fd,
    evli_accept_all,
    evli_kqueue_recv,
    NULL,
};

#endif /* EVLI_HAVE_KQUEUE */

/* ==== [SECTION] Backend iocp ==== */

#if defined(_WIN32)

/* Windows: readiness of sockets through the completion port, by poll operations of the AFD driver,
 * which is what select and WSAPoll are made of. An operation completes once, as soon as one of the
 * events it asks for holds; so each io has one for each direction, started when somebody waits for
 * it and started again, at the next wait, as long as somebody does.
 *  - The driver wants the socket beneath those that layered service providers put around it. One
 *    that does not tell its base socket cannot be watched: EVL_ENOTSUP.
 *  - An operation's memory is the kernel's until it completes, also when it was cancelled and the io
 *    is long forgotten. Hence it is the poller's, not the io's.
 *  - Operations on one driver handle are kept in a list that is searched: 32 sockets share one.
 *  - The port's timeout counts milliseconds of the system's tick, which may be 16 ms long, and may end
 *    early. Where the system has high-resolution timers (Windows 10 1803), one of them interrupts the
 *    sleep. Either way the loop looks at the clock, and waits again if need be. */
typedef LONG evli_ntstatus_t;

typedef struct {
    evli_ntstatus_t status;
    ULONG_PTR information;
} evli_iosb_t;

typedef struct {
    LARGE_INTEGER timeout;
    ULONG count;
    ULONG exclusive;
    struct {
        HANDLE handle;
        ULONG events;
        evli_ntstatus_t status;
    } sockets[1];
} evli_afd_poll_t;

typedef struct {
    USHORT length;
    USHORT room;
    PWSTR text;
} evli_unicode_t;

typedef struct { /* OBJECT_ATTRIBUTES, whose fields are padded alike */
    ULONG length;
    HANDLE root;
    evli_unicode_t *name;
    ULONG attributes;
    PVOID security;
    PVOID quality;
} evli_object_attributes_t;

typedef evli_ntstatus_t(NTAPI *evli_nt_create_file_fn)(PHANDLE, ACCESS_MASK,
                                                       evli_object_attributes_t *, evli_iosb_t *,
                                                       PLARGE_INTEGER, ULONG, ULONG, ULONG, ULONG,
                                                       PVOID, ULONG);
typedef evli_ntstatus_t(NTAPI *evli_nt_device_io_fn)(HANDLE, HANDLE, PVOID, PVOID, evli_iosb_t *,
                                                     ULONG, PVOID, ULONG, PVOID, ULONG);
typedef evli_ntstatus_t(NTAPI *evli_nt_cancel_fn)(HANDLE, evli_iosb_t *, evli_iosb_t *);
typedef ULONG(NTAPI *evli_nt_error_fn)(evli_ntstatus_t);

static struct {
    evli_nt_create_file_fn create_file;
    evli_nt_device_io_fn device_io;
    evli_nt_cancel_fn cancel;
    evli_nt_error_fn to_dos_error;
} evli_nt;

#define EVLI_IOCTL_AFD_POLL   0x00012024
#define EVLI_STATUS_PENDING   0x103
#define EVLI_STATUS_NOT_FOUND ((evli_ntstatus_t)0xC0000225)

#define EVLI_AFD_RECEIVE      0x0001
#define EVLI_AFD_URGENT       0x0002
#define EVLI_AFD_SEND         0x0004
#define EVLI_AFD_DISCONNECT   0x0008
#define EVLI_AFD_ABORT        0x0010
#define EVLI_AFD_LOCAL_CLOSE  0x0020
#define EVLI_AFD_ACCEPT       0x0080
#define EVLI_AFD_CONNECT_FAIL 0x0100

#define EVLI_TIMER_HIGH_RESOLUTION 2

#define EVLI_IOCP_BATCH 128
#define EVLI_AFD_GROUP  32

typedef struct evli_afd_group_s {
    HANDLE device;
    uint32_t users;
    struct evli_afd_group_s *next;
} evli_afd_group_t;

/* A poll operation of one direction. */
typedef struct {
    evli_iosb_t iosb; /* first: the completion is told by its address */
    evli_afd_poll_t poll;
    struct evli_watch_s *watch;
    unsigned bits; /* in flight for these; 0: not in flight */
    int cancelled;
} evli_afd_op_t;

/* What an io has at the kernel. */
typedef struct evli_watch_s {
    evli_link_t link; /* in the list of those to be looked at before the next wait */
    evli_io_t *io;    /* NULL: forgotten, and freed when nothing is in flight */
    evli_afd_group_t *group;
    SOCKET base;
    evli_afd_op_t in, out;
} evli_watch_t;

typedef struct {
    HANDLE port;
    HANDLE timer; /* of high resolution; NULL: the system has none */
    evli_afd_group_t *groups;
    evli_link_t again;
    evli_watch_t **watches; /* by key, from 1 */
    uint32_t count;         /* of places */
    uint32_t used;          /* … of those */
    uint32_t last;          /* key that was given out */
    uint32_t in_flight;
    OVERLAPPED_ENTRY entries[EVLI_IOCP_BATCH];
} evli_iocp_t;

static evli_iocp_t *evli_iocp_of(const evl_loop_t *loop) {
    return (evli_iocp_t *)loop->priv.poller;
}

static int evli_nt_error(evli_ntstatus_t status) {
    return evl_translate_sys_error((int)evli_nt.to_dos_error(status));
}

/* Finds the functions of ntdll. Any thread may; all find the same. */
static int evli_nt_init(void) {
    HMODULE ntdll = GetModuleHandleW(L"ntdll.dll");
    if (ntdll == NULL)
        return EVL_ENOSYS;
    evli_nt.create_file =
        (evli_nt_create_file_fn)(void (*)(void))GetProcAddress(ntdll, "NtCreateFile");
    evli_nt.device_io =
        (evli_nt_device_io_fn)(void (*)(void))GetProcAddress(ntdll, "NtDeviceIoControlFile");
    evli_nt.cancel = (evli_nt_cancel_fn)(void (*)(void))GetProcAddress(ntdll, "NtCancelIoFileEx");
    evli_nt.to_dos_error =
        (evli_nt_error_fn)(void (*)(void))GetProcAddress(ntdll, "RtlNtStatusToDosError");
    if (evli_nt.create_file == NULL || evli_nt.device_io == NULL || evli_nt.cancel == NULL ||
        evli_nt.to_dos_error == NULL)
        return EVL_ENOSYS;
    return 0;
}

static int evli_iocp_init(evl_loop_t *loop) {
    evli_iocp_t *poller;
    int fault = EVLOOP_FAULT("iocp_create"), err = evli_nt_init();
    if (err == 0)
        err = evli_wsa_init();
    if (err != 0)
        return err;
    poller = (evli_iocp_t *)evli_malloc(sizeof(*poller));
    if (poller == NULL)
        return EVL_ENOMEM;
    memset(poller, 0, sizeof(*poller));
    evli_list_init(&poller->again);
    if (!fault)
        poller->port = CreateIoCompletionPort(INVALID_HANDLE_VALUE, NULL, 0, 1);
    if (poller->port == NULL) {
        err = evl_translate_sys_error(fault ? fault : (int)GetLastError());
        evli_free(poller);
        return err;
    }
    poller->timer =
        CreateWaitableTimerExW(NULL, NULL, EVLI_TIMER_HIGH_RESOLUTION, TIMER_ALL_ACCESS);
    loop->priv.poller = poller;
    return 0;
}

/* Opens another handle of the driver and ties it to the port. */
static int evli_afd_open(evli_iocp_t *poller, HANDLE *device) {
    static WCHAR path[] = L"\\Device\\Afd\\evloop";
    evli_unicode_t name;
    evli_object_attributes_t attributes;
    evli_iosb_t iosb;
    evli_ntstatus_t status;
    name.length = sizeof(path) - sizeof(path[0]);
    name.room = sizeof(path);
    name.text = path;
    memset(&attributes, 0, sizeof(attributes));
    attributes.length = sizeof(attributes);
    attributes.name = &name;
    status = evli_nt.create_file(device, SYNCHRONIZE, &attributes, &iosb, NULL, 0,
                                 FILE_SHARE_READ | FILE_SHARE_WRITE, 1 /* open */, 0, NULL, 0);
    if (status != 0)
        return evli_nt_error(status);
    if (CreateIoCompletionPort(*device, poller->port, 0, 0) == NULL) {
        int err = evli_win_error();
        CloseHandle(*device);
        return err;
    }
    return 0;
}

/* Gives a watch its place at the driver. */
static int evli_afd_join(evli_iocp_t *poller, evli_watch_t *watch) {
    evli_afd_group_t *group = poller->groups;
    while (group != NULL && group->users == EVLI_AFD_GROUP)
        group = group->next;
    if (group == NULL) {
        int err;
        group = (evli_afd_group_t *)evli_malloc(sizeof(*group));
        if (group == NULL)
            return EVL_ENOMEM;
        group->users = 0;
        err = evli_afd_open(poller, &group->device);
        if (err != 0) {
            evli_free(group);
            return err;
        }
        group->next = poller->groups;
        poller->groups = group;
    }
    group->users++;
    watch->group = group;
    return 0;
}

/* The socket that the driver knows. */
static int evli_base_socket(SOCKET sock, SOCKET *base) {
    static const DWORD questions[] = {0x48000022 /* SIO_BASE_HANDLE */,
                                      0x4800001D /* SIO_BSP_HANDLE_POLL */};
    size_t i;
    DWORD bytes;
    for (i = 0; i < EVLI_COUNT(questions); i++)
        if (WSAIoctl(sock, questions[i], NULL, 0, base, sizeof(*base), &bytes, NULL, NULL) !=
            SOCKET_ERROR)
            return 0;
    return WSAGetLastError() == WSAENOTSOCK ? (int)EVL_ENOTSOCK : (int)EVL_ENOTSUP;
}

static void evli_watch_free(evli_watch_t *watch) {
    watch->group->users--;
    evli_free(watch);
}

/* Finds a free key: the next one round from the last. Half of the places stay free, so that it is
 * near. */
static int evli_watch_key(evli_iocp_t *poller, uint32_t *key) {
    if (poller->used + 1 > poller->count / 2) {
        uint32_t room = poller->count;
        evli_watch_t **watches =
            (evli_watch_t **)evli_grow(poller->watches, &room, room + 1, sizeof(*watches));
        if (watches == NULL)
            return EVL_ENOMEM;
        memset(watches + poller->count, 0, (room - poller->count) * sizeof(*watches));
        poller->last = poller->count;
        poller->watches = watches;
        poller->count = room;
    }
    do {
        poller->last = poller->last + 1 < poller->count ? poller->last + 1 : 1;
    } while (poller->watches[poller->last] != NULL);
    *key = poller->last;
    return 0;
}

static int evli_watch_new(evli_iocp_t *poller, evli_io_t *io) {
    evli_watch_t *watch;
    uint32_t key = 0;
    int err = evli_watch_key(poller, &key);
    if (err != 0)
        return err;
    watch = (evli_watch_t *)evli_malloc(sizeof(*watch));
    if (watch == NULL)
        return EVL_ENOMEM;
    memset(watch, 0, sizeof(*watch));
    err = evli_base_socket(io->fd, &watch->base);
    if (err == 0)
        err = evli_afd_join(poller, watch);
    if (err != 0) {
        evli_free(watch);
        return err;
    }
    watch->io = io;
    watch->in.watch = watch->out.watch = watch;
    poller->watches[key] = watch;
    poller->used++;
    io->key = key;
    return 0;
}

static ULONG evli_afd_mask(unsigned bits) {
    ULONG mask = EVLI_AFD_ABORT | EVLI_AFD_CONNECT_FAIL | EVLI_AFD_LOCAL_CLOSE;
    if (bits & EVLI_IN)
        mask |= EVLI_AFD_RECEIVE | EVLI_AFD_ACCEPT | EVLI_AFD_DISCONNECT;
    if (bits & EVLI_HUP)
        mask |= EVLI_AFD_DISCONNECT;
    if (bits & EVLI_PRI)
        mask |= EVLI_AFD_URGENT;
    if (bits & EVLI_OUT)
        mask |= EVLI_AFD_SEND;
    return mask;
}

static unsigned evli_afd_bits(ULONG events) {
    unsigned bits = 0;
    if (events & (EVLI_AFD_RECEIVE | EVLI_AFD_ACCEPT))
        bits |= EVLI_IN;
    if (events & EVLI_AFD_DISCONNECT)
        bits |= EVLI_IN | EVLI_HUP;
    if (events & EVLI_AFD_URGENT)
        bits |= EVLI_PRI;
    if (events & EVLI_AFD_SEND)
        bits |= EVLI_OUT;
    if (events & (EVLI_AFD_ABORT | EVLI_AFD_CONNECT_FAIL))
        bits |= EVLI_ALL;
    if (events & EVLI_AFD_LOCAL_CLOSE) /* somebody else has closed the socket */
        bits |= EVLI_ALL | EVLI_ERR;
    return bits;
}

/* Starts an operation. Its end is told at the port, also when it ends at once. */
static int evli_afd_start(evli_iocp_t *poller, evli_afd_op_t *op, unsigned bits) {
    evli_watch_t *watch = op->watch;
    evli_ntstatus_t status;
    int fault = EVLOOP_FAULT("afd_poll");
    if (fault)
        return evl_translate_sys_error(fault);
    memset(&op->poll, 0, sizeof(op->poll));
    op->poll.timeout.QuadPart = INT64_MAX;
    op->poll.count = 1;
    op->poll.sockets[0].handle = (HANDLE)watch->base;
    op->poll.sockets[0].events = evli_afd_mask(bits);
    op->iosb.status = EVLI_STATUS_PENDING;
    status = evli_nt.device_io(watch->group->device, NULL, NULL, op, &op->iosb, EVLI_IOCTL_AFD_POLL,
                               &op->poll, sizeof(op->poll), &op->poll, sizeof(op->poll));
    if (status != 0 && status != EVLI_STATUS_PENDING)
        return evli_nt_error(status);
    op->bits = bits;
    op->cancelled = 0;
    poller->in_flight++;
    return 0;
}

/* Ends an operation before its time; that is told at the port, too. */
static void evli_afd_cancel(evli_afd_op_t *op) {
    evli_iosb_t result; /* of cancelling, not of the operation */
    if (op->bits == 0 || op->cancelled)
        return;
    op->cancelled = 1;
    evli_nt.cancel(op->watch->group->device, &op->iosb, &result);
}

/* Starts what is missing for `bits`. An operation in flight for too little is left alone when it is
 * for reading, and asked for anew by the other one otherwise: both directions' own bits differ only
 * for poll handles. */
static int evli_watch_arm(evli_iocp_t *poller, evli_watch_t *watch, unsigned bits) {
    unsigned in = bits & (EVLI_IN | EVLI_HUP | EVLI_PRI), out = bits & EVLI_OUT;
    int err = 0;
    if (in != 0 && watch->in.bits == 0)
        err = evli_afd_start(poller, &watch->in, in);
    else if ((in & ~watch->in.bits) != 0)
        evli_afd_cancel(&watch->in);
    if (err == 0 && out != 0 && watch->out.bits == 0)
        err = evli_afd_start(poller, &watch->out, out);
    return err;
}

/* Has a watch looked at before each wait, which is a promise to report all. */
static void evli_watch_again(evli_iocp_t *poller, evli_watch_t *watch) {
    if (watch->link.next == NULL)
        evli_list_push(&poller->again, &watch->link);
    watch->io->armed = EVLI_ALL | EVLI_FED;
}

static int evli_iocp_forget(evl_loop_t *loop, evli_io_t *io, int closing) {
    evli_iocp_t *poller = evli_iocp_of(loop);
    evli_watch_t *watch = poller->watches[io->key];
    (void)closing;
    poller->watches[io->key] = NULL;
    poller->used--;
    io->key = 0;
    io->armed = 0;
    watch->io = NULL;
    evli_list_remove(&watch->link);
    evli_afd_cancel(&watch->in);
    evli_afd_cancel(&watch->out);
    if (watch->in.bits == 0 && watch->out.bits == 0)
        evli_watch_free(watch);
    return 0;
}

static int evli_iocp_watch(evl_loop_t *loop, evli_io_t *io) {
    evli_iocp_t *poller = evli_iocp_of(loop);
    evli_watch_t *watch;
    int err = 0, is_new = io->key == 0;
    if (is_new) { /* streams' sockets are their own, and evl_tcp_open has asked */
        if (io->kind == EVLI_IO_POLL && loop->priv.backend->knows(loop, io->fd))
            return EVL_EEXIST;
        err = evli_watch_new(poller, io);
    }
    if (err != 0)
        return err;
    watch = poller->watches[io->key];
    err = evli_watch_arm(poller, watch, io->want & ~(unsigned)io->ready);
    if (err == 0)
        evli_watch_again(poller, watch); /* what is ready now is asked for when it is no more */
    else if (is_new)
        evli_iocp_forget(loop, io, 0);
    return err;
}

static int evli_iocp_knows(const evl_loop_t *loop, evl_os_sock_t sock) {
    evli_iocp_t *poller = evli_iocp_of(loop);
    uint32_t i;
    for (i = 1; i < poller->count; i++)
        if (poller->watches[i] != NULL && poller->watches[i]->io->fd == sock)
            return 1;
    return 0;
}

/* An operation has ended: reports what it saw, and has the watch looked at again. */
static void evli_afd_ended(evl_loop_t *loop, evli_iocp_t *poller, evli_afd_op_t *op) {
    evli_watch_t *watch = op->watch;
    ULONG events = op->poll.sockets[0].events;
    poller->in_flight--;
    op->bits = 0;
    if (watch->io == NULL) {
        if (watch->in.bits == 0 && watch->out.bits == 0)
            evli_watch_free(watch);
        return;
    }
    evli_watch_again(poller, watch);
    if (op->iosb.status < 0 && !op->cancelled) /* the driver gives up, and would again */
        evli_io_event(loop, watch->io, EVLI_ALL | EVLI_ERR);
    else if (op->iosb.status >= 0 && op->poll.count > 0)
        evli_io_event(loop, watch->io, evli_afd_bits(events));
}

/* Starts again what has ended and is still waited for. */
static void evli_iocp_again(evl_loop_t *loop, evli_iocp_t *poller) {
    evli_link_t *link, *next;
    for (link = poller->again.next; link != &poller->again; link = next) {
        evli_watch_t *watch = EVLI_OF(link, evli_watch_t, link);
        evli_io_t *io = watch->io;
        next = link->next;
        if (evli_watch_arm(poller, watch, io->want & ~(unsigned)io->ready) != 0) {
            evli_io_event(loop, io, EVLI_ALL | EVLI_ERR); /* the next call will tell */
            continue;
        }
        if ((io->want & io->ready) == 0) { /* from here on, what is in flight is what is promised */
            evli_list_remove(link);
            io->armed = (uint8_t)(watch->in.bits | watch->out.bits | EVLI_FED);
        }
    }
}

/* What the timer calls on the loop's thread. That it interrupts the sleep is all it is for. */
static void CALLBACK evli_iocp_rang(LPVOID arg, DWORD low, DWORD high) {
    (void)arg;
    (void)low;
    (void)high;
}

/* Has the timer interrupt the sleep that follows. Returns whether it will. */
static BOOL evli_iocp_set_timer(const evli_iocp_t *poller, uint64_t timeout_ns) {
    LARGE_INTEGER due; /* in 100 ns; below 0: from now */
    if (poller->timer == NULL || timeout_ns == 0 || timeout_ns == EVLI_NEVER)
        return FALSE;
    due.QuadPart = -(LONGLONG)(timeout_ns / 100 + 1);
    return SetWaitableTimer(poller->timer, &due, 0, evli_iocp_rang, NULL, FALSE);
}

/* An error of waiting. Those of Winsock's that pass by themselves are what a signal is elsewhere. */
static int evli_iocp_error(int error) {
    return error == WSAEWOULDBLOCK || error == WSAEINTR ? (int)EVL_EINTR
                                                        : evl_translate_sys_error(error);
}

static int evli_iocp_wait(evl_loop_t *loop, uint64_t timeout_ns) {
    evli_iocp_t *poller = evli_iocp_of(loop);
    uint64_t ms = timeout_ns / EVLI_NS_PER_MS + (timeout_ns % EVLI_NS_PER_MS != 0);
    DWORD timeout = timeout_ns == EVLI_NEVER ? INFINITE : ms >= INFINITE ? INFINITE - 1 : (DWORD)ms;
    uint64_t end = evli_add_ns(evli_sys_clock(), timeout_ns);
    int fault = EVLOOP_FAULT("iocp_wait");
    ULONG i, n = 0, woken = 0;
    BOOL alertable;
    if (fault)
        return evli_iocp_error(fault);
    evli_iocp_again(loop, poller);
    if (!evli_list_empty(&loop->priv.ready))
        timeout = 0;
    alertable = timeout != 0 && evli_iocp_set_timer(poller, timeout_ns);
    if (!GetQueuedCompletionStatusEx(poller->port, poller->entries, EVLI_IOCP_BATCH, &n, timeout,
                                     alertable)) {
        if (GetLastError() != WAIT_TIMEOUT && GetLastError() != WAIT_IO_COMPLETION)
            return evli_iocp_error((int)GetLastError());
        return timeout != 0 && evli_sys_clock() < end ? (int)EVL_EINTR : 0; /* it was early */
    }
    for (i = 0; i < n; i++)
        if (poller->entries[i].lpOverlapped != NULL)
            evli_afd_ended(loop, poller, (evli_afd_op_t *)(void *)poller->entries[i].lpOverlapped);
        else
            woken++;
    return (int)(n - woken);
}

/* What is still in flight is the kernel's memory until it has ended. */
static void evli_iocp_destroy(evl_loop_t *loop) {
    evli_iocp_t *poller = evli_iocp_of(loop);
    evli_afd_group_t *group, *next;
    while (poller->in_flight > 0)
        if (evli_iocp_wait(loop, EVLI_NEVER) < 0)
            break;
    for (group = poller->groups; group != NULL; group = next) {
        next = group->next;
        CloseHandle(group->device);
        evli_free(group);
    }
    if (poller->timer != NULL)
        CloseHandle(poller->timer);
    CloseHandle(poller->port);
    evli_free(poller->watches);
    evli_free(poller);
}

/* There is no fork. */
static int evli_iocp_fork(evl_loop_t *loop) {
    (void)loop;
    return EVL_ENOSYS;
}

static void evli_iocp_wake(evl_loop_t *loop) {
    DWORD saved = GetLastError();
    int fault;
    do {
        fault = EVLOOP_FAULT("wake");
    } while (fault == WSAEWOULDBLOCK);
    if (!fault)
        PostQueuedCompletionStatus(evli_iocp_of(loop)->port, 0, 0, NULL);
    SetLastError(saved);
}

static int evli_iocp_fd(const evl_loop_t *loop) {
    (void)loop;
    return -1;
}

static const evli_backend_t evli_backend_iocp = {
    "iocp",
    evli_iocp_init,
    evli_iocp_destroy,
    evli_iocp_fork,
    evli_iocp_watch,
    NULL,
    evli_iocp_forget,
    evli_iocp_knows,
    evli_iocp_wait,
    evli_iocp_wake,
    evli_iocp_fd,
    evli_accept_all,
    NULL,
    NULL,
};

#endif /* _WIN32 */

/* ==== [SECTION] Backend poll ==== */

#if !defined(_WIN32)

/* poll(2), for any POSIX system: an array of descriptors, handed over anew each time. `key` is the
 * place in it, from 1; place 0 is the pipe that wakes the loop. poll reports a hang-up whether asked
 * or not, so a descriptor that nobody waits for is masked by a negative number. */
typedef struct {
    int wake[2];
    uint32_t count, capacity, ios_capacity;
    struct pollfd *fds;
    evli_io_t **ios;
} evli_poll_t;

static evli_poll_t *evli_poll_of(const evl_loop_t *loop) {
    return (evli_poll_t *)loop->priv.poller;
}

/* Makes room for one more descriptor. */
static int evli_poll_reserve(evli_poll_t *poller) {
    void *block;
    if (poller->count == poller->capacity) {
        block = evli_grow(poller->fds, &poller->capacity, poller->count + 1, sizeof(struct pollfd));
        if (block == NULL)
            return EVL_ENOMEM;
        poller->fds = (struct pollfd *)block;
    }
    if (poller->count == poller->ios_capacity) {
        block =
            evli_grow(poller->ios, &poller->ios_capacity, poller->count + 1, sizeof(evli_io_t *));
        if (block == NULL)
            return EVL_ENOMEM;
        poller->ios = (evli_io_t **)block;
    }
    return 0;
}

static int evli_poll_open(int wake[2]) {
    return evl_pipe(wake, EVL_NONBLOCK_PIPE, EVL_NONBLOCK_PIPE);
}

static void evli_poll_free(evli_poll_t *poller) {
    evli_free(poller->fds);
    evli_free(poller->ios);
    evli_free(poller);
}

static int evli_poll_init(evl_loop_t *loop) {
    evli_poll_t *poller = (evli_poll_t *)evli_malloc(sizeof(*poller));
    int err;
    if (poller == NULL)
        return EVL_ENOMEM;
    memset(poller, 0, sizeof(*poller));
    err = evli_poll_reserve(poller);
    if (err == 0)
        err = evli_poll_open(poller->wake);
    if (err != 0) {
        evli_poll_free(poller);
        return err;
    }
    poller->ios[0] = NULL;
    poller->count = 1;
    loop->priv.poller = poller;
    return 0;
}

static void evli_poll_destroy(evl_loop_t *loop) {
    evli_poll_t *poller = evli_poll_of(loop);
    evli_sys_close(poller->wake[0]);
    evli_sys_close(poller->wake[1]);
    evli_poll_free(poller);
}

static int evli_poll_fork(evl_loop_t *loop) {
    evli_poll_t *poller = evli_poll_of(loop);
    int wake[2];
    int err = evli_poll_open(wake);
    if (err != 0)
        return err;
    evli_sys_close(poller->wake[0]);
    evli_sys_close(poller->wake[1]);
    poller->wake[0] = wake[0];
    poller->wake[1] = wake[1];
    poller->count = 1;
    return 0;
}

static int evli_poll_knows(const evl_loop_t *loop, evl_os_sock_t fd) {
    evli_poll_t *poller = evli_poll_of(loop);
    uint32_t i;
    for (i = 1; i < poller->count; i++)
        if (poller->ios[i]->fd == fd)
            return 1;
    return 0;
}

static int evli_poll_watch(evl_loop_t *loop, evli_io_t *io) {
    evli_poll_t *poller = evli_poll_of(loop);
    int err;
    if (io->armed == 0) {
        err = evli_sys_can_wait(io->fd);
        if (err != 0)
            return err;
        if (evli_poll_knows(loop, io->fd))
            return EVL_EEXIST;
        err = evli_poll_reserve(poller);
        if (err != 0)
            return err;
        io->key = poller->count++;
        poller->ios[io->key] = io;
    }
    io->armed = io->kind == EVLI_IO_POLL ? io->want : EVLI_ALL;
    return 0;
}

static int evli_poll_forget(evl_loop_t *loop, evli_io_t *io, int closing) {
    evli_poll_t *poller = evli_poll_of(loop);
    evli_io_t *last = poller->ios[--poller->count];
    (void)closing;
    poller->ios[io->key] = last;
    last->key = io->key;
    io->armed = 0;
    return 0;
}

static short evli_poll_mask(const evli_io_t *io) {
    unsigned bits = io->want & (io->kind == EVLI_IO_POLL ? ~0u : ~(unsigned)io->ready);
    int mask = 0;
    if (bits & EVLI_IN)
        mask |= POLLIN;
    if (bits & EVLI_OUT)
        mask |= POLLOUT;
    if (bits & EVLI_PRI)
        mask |= POLLPRI;
    if (bits & EVLI_HUP)
        mask |= EVLI_POLLRDHUP;
    if ((bits & EVLI_IN) && io->kind == EVLI_IO_STREAM)
        mask |= EVLI_POLLRDHUP;
    return (short)mask;
}

static unsigned evli_poll_bits(int events) {
    unsigned bits = 0;
    if (events & POLLIN)
        bits |= EVLI_IN;
    if (events & POLLOUT)
        bits |= EVLI_OUT;
    if (events & POLLPRI)
        bits |= EVLI_PRI;
    if (events & EVLI_POLLRDHUP)
        bits |= EVLI_IN | EVLI_HUP;
    if (events & (POLLHUP | POLLERR | POLLNVAL))
        bits |= EVLI_ALL;
    if ((events & POLLNVAL) || ((events & POLLERR) && !(events & POLLPRI)))
        bits |= EVLI_ERR;
    return bits;
}

#if EVLI_HAVE_PPOLL

static int evli_poll_sleep(evl_loop_t *loop, struct pollfd *fds, uint32_t count,
                           uint64_t timeout_ns) {
    struct timespec ts;
    sigset_t blocked, *mask = evli_sleep_mask(loop, &blocked);
    uint64_t seconds = timeout_ns / EVLI_NS_PER_S;
    ts.tv_sec = (time_t)(seconds > INT_MAX ? INT_MAX : seconds);
    ts.tv_nsec = (long)(timeout_ns % EVLI_NS_PER_S);
    return ppoll(fds, count, timeout_ns == EVLI_NEVER ? NULL : &ts, mask);
}

#else

/* The signal is blocked around the call, not within it; the time is rounded up. */
static int evli_poll_sleep(evl_loop_t *loop, struct pollfd *fds, uint32_t count,
                           uint64_t timeout_ns) {
    uint64_t ms = timeout_ns / EVLI_NS_PER_MS + (timeout_ns % EVLI_NS_PER_MS != 0);
    int n, timeout = timeout_ns == EVLI_NEVER ? -1 : ms > INT_MAX ? INT_MAX : (int)ms;
    sigset_t before;
    evli_sleep_block(loop, &before);
    n = poll(fds, count, timeout);
    evli_sleep_unblock(loop, &before);
    return n;
}

#endif

static int evli_poll_wait(evl_loop_t *loop, uint64_t timeout_ns) {
    evli_poll_t *poller = evli_poll_of(loop);
    char sink[64];
    uint32_t i;
    int n, woken, fault = EVLOOP_FAULT("poll");
    for (i = 1; i < poller->count; i++) {
        poller->fds[i].events = evli_poll_mask(poller->ios[i]);
        poller->fds[i].fd = poller->fds[i].events ? poller->ios[i]->fd : -1;
    }
    poller->fds[0].fd = poller->wake[0];
    poller->fds[0].events = POLLIN;
    n = fault ? evli_fail(fault) : evli_poll_sleep(loop, poller->fds, poller->count, timeout_ns);
    if (n < 0)
        return -errno;
    woken = n > 0 && poller->fds[0].revents != 0;
    if (woken)
        while (read(poller->wake[0], sink, sizeof(sink)) == (ssize_t)sizeof(sink)) {}
    for (i = 1; n > 0 && i < poller->count; i++)
        if (poller->fds[i].fd >= 0 && poller->fds[i].revents != 0)
            evli_io_event(loop, poller->ios[i], evli_poll_bits(poller->fds[i].revents));
    return n - woken;
}

static void evli_poll_wake(evl_loop_t *loop) {
    int saved = errno;
    ssize_t n;
    do {
        int fault = EVLOOP_FAULT("wake");
        n = fault ? evli_fail(fault) : write(evli_poll_of(loop)->wake[1], "", 1);
    } while (n < 0 && errno == EINTR); /* EAGAIN: the pipe is full, so the loop is awake soon */
    errno = saved;
}

static int evli_poll_fd(const evl_loop_t *loop) {
    (void)loop;
    return -1;
}

static const evli_backend_t evli_backend_poll = {
    "poll",
    evli_poll_init,
    evli_poll_destroy,
    evli_poll_fork,
    evli_poll_watch,
    NULL,
    evli_poll_forget,
    evli_poll_knows,
    evli_poll_wait,
    evli_poll_wake,
    evli_poll_fd,
    NULL,
    NULL,
    NULL,
};

#endif /* !_WIN32 */

/* ==== [SECTION] Callbacks and turns ==== */

/* Evl_handle_t.flags. */
enum {
    EVLI_H_ACTIVE = 0x01,
    EVLI_H_REF = 0x02,
    EVLI_H_CLOSING = 0x04,
    EVLI_H_CLOSED = 0x08,
    EVLI_H_INTERNAL = 0x10,
    EVLI_H_CONNECTED = 0x40,
    EVLI_H_READABLE = 0x80,
    EVLI_H_WRITABLE = 0x100,
    EVLI_H_LISTENING = 0x200,
    EVLI_H_SHUTTING = 0x400, /* a shutdown waits for the queue or its callback */
    EVLI_H_SHUT = 0x800,
    EVLI_H_BLOCKING = 0x1000,
    EVLI_H_FOREIGN = 0x2000, /* the descriptor came from the user, who may have duplicates of it */
    EVLI_H_NODELAY = 0x4000,
    EVLI_H_KEEPALIVE = 0x8000,
    EVLI_H_HELD = 0x10000 /* the kernel still uses it: its close waits */
};

/* Evl_loop_t.flags. */
enum {
    EVLI_L_RUNNING = 0x01,
    EVLI_L_HALTED = 0x02, /* evl_run_for has spent its budget */
    EVLI_L_IDLE_TIME = 0x04,
    EVLI_L_LENT = 0x08,      /* somebody may sleep on the backend's descriptor */
    EVLI_L_NOW_UNREAD = 0x10 /* the cached time is to be read by who asks first */
};

/* Evl_loop_t.turn: what the end of a turn has to look after. */
enum { EVLI_TURN_TASKS = 0x01, EVLI_TURN_CHECKPOINT = 0x02, EVLI_TURN_BUDGET = 0x04 };

/* The one way to call the user: a callback, and then the end of its turn, where ticks and microtasks
 * are drained and budgets checked. While nothing of that is due, it costs one branch. After it, the
 * handle may be closing, stopped or started anew, and the loop may be halted. */
#define EVLI_CALL(loop, call)                                                                      \
    do {                                                                                           \
        call;                                                                                      \
        (loop)->priv.fresh_ns = 0;                                                                 \
        if (!EVLI_LIKELY((loop)->priv.turn == 0))                                                  \
            evli_turn_end(loop);                                                                   \
    } while (0)

static inline int evli_halted(const evl_loop_t *loop) {
    return (loop->priv.flags & EVLI_L_HALTED) != 0;
}

/* Counts a callback against the budget of evl_run_for. */
static void evli_spend(evl_loop_t *loop) {
    if (!(loop->priv.turn & EVLI_TURN_BUDGET))
        return;
    loop->priv.callbacks++;
    if (evli_sys_clock() >= loop->priv.deadline_ns)
        loop->priv.flags |= EVLI_L_HALTED;
}

/* Runs what is in a ring, and what is put there meanwhile. */
static void evli_drain_ring(evl_loop_t *loop, evli_ring_t *ring) {
    while (ring->count > 0 && !evli_halted(loop)) {
        struct evli_ring_item_s item = evli_ring_pop(ring);
        item.cb(loop, item.arg);
        loop->priv.fresh_ns = 0;
        evli_spend(loop);
    }
}

/* All ticks, then all microtasks, then the checkpoint, until nothing is left. */
static void evli_drain(evl_loop_t *loop) {
    do {
        evli_drain_ring(loop, &loop->priv.ticks);
        evli_drain_ring(loop, &loop->priv.microtasks);
        if (loop->priv.ticks.count == 0 && loop->priv.checkpoint_cb != NULL && !evli_halted(loop)) {
            loop->priv.checkpoint_cb(loop, loop->priv.checkpoint_arg);
            loop->priv.fresh_ns = 0;
            evli_spend(loop);
        }
    } while (loop->priv.ticks.count + loop->priv.microtasks.count > 0 && !evli_halted(loop));
    if (loop->priv.ticks.count + loop->priv.microtasks.count == 0)
        loop->priv.turn &= ~(uint32_t)EVLI_TURN_TASKS;
}

static void evli_turn_end(evl_loop_t *loop) {
    evli_spend(loop);
    if (loop->priv.turn & (EVLI_TURN_TASKS | EVLI_TURN_CHECKPOINT))
        evli_drain(loop);
}

/* The clock for due times: read once in each callback. */
static uint64_t evli_fresh_ns(evl_loop_t *loop) {
    if (loop->priv.fresh_ns == 0)
        loop->priv.fresh_ns = evli_sys_clock();
    return loop->priv.fresh_ns;
}

EVLOOP_API uint64_t evl_hrtime(void) {
    return evli_sys_clock();
}

/* Reads the cached time. An iteration that calls nobody does without: see evli_iterate. */
static void evli_now_read(evl_loop_t *loop) {
    loop->priv.now_ns = evli_sys_clock();
    loop->priv.flags &= ~(uint32_t)EVLI_L_NOW_UNREAD;
}

EVLOOP_API void evl_update_time(evl_loop_t *loop) {
    evli_now_read(loop);
    loop->priv.fresh_ns = loop->priv.now_ns;
}

EVLOOP_API uint64_t evl_now_ns(const evl_loop_t *loop) {
    if (loop->priv.flags & EVLI_L_NOW_UNREAD)
        evli_now_read((evl_loop_t *)(uintptr_t)loop);
    return loop->priv.now_ns;
}

EVLOOP_API uint64_t evl_now(const evl_loop_t *loop) {
    return evl_now_ns(loop) / EVLI_NS_PER_MS;
}

/* ==== [SECTION] Inbox ==== */

/* What is sent to a loop, from its own thread or any other, goes through one lock-free stack: asyncs,
 * posts, and jobs that are done. While the loop sleeps, EVLI_ASLEEP lies at the bottom. The sender that
 * finds nothing but that wakes the loop; no other touches the loop once its node is on the stack, for
 * the loop may be gone by then. So that it is not gone for the one that does, the loop counts how many
 * wake-ups it is owed, and is closed only when they have been made. */
enum { EVLI_NODE_ASYNC, EVLI_NODE_POST, EVLI_NODE_JOB, EVLI_NODE_KINDS };

static evli_node_t evli_asleep;
#define EVLI_ASLEEP (&evli_asleep)

/* On the stack a node has its kind in the lower bits of its `next`. */
static inline evli_node_t *evli_node_mark(evli_node_t *next, unsigned kind) {
    return (evli_node_t *)((uintptr_t)next | kind);
}

static inline unsigned evli_node_kind(const evli_node_t *node) {
    return (unsigned)((uintptr_t)node->next & 3);
}

static inline evli_node_t *evli_node_next(const evli_node_t *node) {
    return (evli_node_t *)((uintptr_t)node->next & ~(uintptr_t)3);
}

/* Returns whether the sender owes the loop a wake-up. */
static int evli_inbox_push(evl_loop_t *loop, evli_node_t *node, unsigned kind) {
    evli_node_t *top = evli_load_node(&loop->priv.inbox);
    do {
        node->next = evli_node_mark(top, kind);
    } while (!evli_cas_node(&loop->priv.inbox, &top, node));
    return top == EVLI_ASLEEP;
}

static void evli_inbox_wake(evl_loop_t *loop) {
    loop->priv.backend->wake(loop);
    evli_fetch_add(&loop->priv.wakes, 1);
}

static void evli_send(evl_loop_t *loop, evli_node_t *node, unsigned kind) {
    if (evli_inbox_push(loop, node, kind))
        evli_inbox_wake(loop);
}

/* Before a sleep: senders wake the loop from now on. Returns whether the inbox is empty; else there is
 * no need to sleep. */
static int evli_inbox_sleep(evl_loop_t *loop) {
    evli_node_t *none = NULL;
    return evli_cas_node(&loop->priv.inbox, &none, EVLI_ASLEEP);
}

static void evli_inbox_awake(evl_loop_t *loop) {
    evli_node_t *asleep = EVLI_ASLEEP;
    evli_cas_node(&loop->priv.inbox, &asleep, NULL);
}

static inline int evli_inbox_empty(const evl_loop_t *loop) {
    const evli_node_t *top = evli_load_node(&loop->priv.inbox);
    return top == NULL || top == EVLI_ASLEEP;
}

/* Whether something that was sent waits to be run. */
static int evli_sent(const evl_loop_t *loop) {
    return !evli_inbox_empty(loop) || loop->priv.asyncs.taken != NULL ||
           loop->priv.asyncs.batch != NULL || loop->priv.posts.taken != NULL ||
           loop->priv.posts.batch != NULL || loop->priv.done.taken != NULL ||
           loop->priv.done.batch != NULL;
}

/* A post keeps the loop alive, also one that has not been taken yet. */
static int evli_posted(const evl_loop_t *loop) {
    const evli_node_t *node = evli_load_node(&loop->priv.inbox);
    if (loop->priv.posts.taken != NULL || loop->priv.posts.batch != NULL)
        return 1;
    for (; node != NULL && node != EVLI_ASLEEP; node = evli_node_next(node))
        if (evli_node_kind(node) == EVLI_NODE_POST)
            return 1;
    return 0;
}

/* When the loop does not run, but somebody may sleep on the backend's descriptor: senders wake that. */
static void evli_inbox_rest(evl_loop_t *loop) {
    if (evli_sent(loop) || !evli_inbox_sleep(loop))
        loop->priv.backend->wake(loop);
}

/* Takes what was sent, first sent first, over to the ends of what was taken before. */
static void evli_inbox_take(evl_loop_t *loop) {
    evli_node_t *node, *next, *chains[EVLI_NODE_KINDS] = {NULL, NULL, NULL};
    evli_node_t **ends[EVLI_NODE_KINDS] = {NULL, loop->priv.posts.end, loop->priv.done.end};
    unsigned kind;
    if (evli_inbox_empty(loop))
        return;
    for (node = evli_exchange_node(&loop->priv.inbox, NULL); node != NULL && node != EVLI_ASLEEP;
         node = next) {
        next = evli_node_next(node);
        kind = evli_node_kind(node);
        if (chains[kind] == NULL)
            ends[kind] = &node->next;
        node->next = chains[kind];
        chains[kind] = node;
    }
    for (next = chains[EVLI_NODE_ASYNC]; next != NULL; next = next->next) {
        EVLI_OF(next, evl_async_t, priv.node)->priv.back = loop->priv.asyncs.end;
        *loop->priv.asyncs.end = next;
        loop->priv.asyncs.end = &next->next;
    }
    *loop->priv.posts.end = chains[EVLI_NODE_POST];
    loop->priv.posts.end = ends[EVLI_NODE_POST];
    *loop->priv.done.end = chains[EVLI_NODE_JOB];
    loop->priv.done.end = ends[EVLI_NODE_JOB];
    if (node != EVLI_ASLEEP)
        return;
    loop->priv.owed++;
    if ((loop->priv.flags & (EVLI_L_RUNNING | EVLI_L_LENT)) == EVLI_L_LENT)
        evli_inbox_rest(loop);
}

/* Begins a pass over what was sent so far. */
static void evli_inbox_begin(evl_loop_t *loop, evli_chain_t *chain) {
    evli_inbox_take(loop);
    chain->batch = chain->taken;
    chain->taken = NULL;
    chain->end = &chain->taken;
}

/* ==== [SECTION] Phases ==== */

/* What runs an io or a deadline of each kind, and what each handle type does when it is closed: see
 * the last section. The functions return nothing but evli_finish_…, which return 1 when done and 0
 * when the loop was halted before. */
typedef void (*evli_io_fn)(evl_loop_t *loop, evli_io_t *io);
typedef void (*evli_due_fn)(evl_loop_t *loop, evli_due_t *due);
typedef struct {
    size_t size;
    void (*close)(evl_handle_t *handle);
    int (*finish)(evl_handle_t *handle);    /* before the close callback; NULL: nothing to do */
    evli_io_t *(*io)(evl_handle_t *handle); /* NULL: it has none */
    int (*listen)(evl_stream_t *stream, int backlog, void (*cb)(evl_stream_t *server, int status));
} evli_handle_type_t;

static int evli_run_written(evl_loop_t *loop);
static evli_io_fn evli_io_function(unsigned kind);
static evli_due_fn evli_due_function(unsigned kind);
static const evli_handle_type_t *evli_handle_type_of(evl_handle_type type);

/* Evl_loop_t.phase: where an iteration is, or will go on. */
enum {
    EVLI_PHASE_NONE,
    EVLI_PHASE_PENDING,
    EVLI_PHASE_IDLE,
    EVLI_PHASE_PREPARE,
    EVLI_PHASE_POLL,
    EVLI_PHASE_READY,
    EVLI_PHASE_ASYNC,
    EVLI_PHASE_POSTS,
    EVLI_PHASE_JOBS,
    EVLI_PHASE_LATE,
    EVLI_PHASE_CHECK,
    EVLI_PHASE_IMMEDIATES,
    EVLI_PHASE_CLOSING,
    EVLI_PHASE_CLOCK,
    EVLI_PHASE_TIMERS
};

/* Each phase function works on what was there when it began, and returns 1 when it is through and 0
 * when the loop was halted on the way; called again, it goes on where it was. */

/* Runs the ios of a queue. */
static int evli_run_ios(evl_loop_t *loop, evli_link_t *queue) {
    if (evli_list_empty(&loop->priv.batch))
        evli_list_splice(&loop->priv.batch, queue);
    while (!evli_list_empty(&loop->priv.batch)) {
        evli_io_t *io;
        if (evli_halted(loop))
            return 0;
        io = EVLI_OF(evli_list_pop(&loop->priv.batch), evli_io_t, link);
        evli_io_function(io->kind)(loop, io);
    }
    return 1;
}

/* Whether a callback is due for something that has happened already. */
static inline int evli_pending(const evl_loop_t *loop) {
    return loop->priv.written != NULL || !evli_list_empty(&loop->priv.pending) ||
           loop->priv.written_batch != NULL || !evli_list_empty(&loop->priv.batch);
}

static int evli_run_pending(evl_loop_t *loop) {
    return !evli_pending(loop) ||
           (evli_run_written(loop) && evli_run_ios(loop, &loop->priv.pending));
}

/* Runs what has become pending in the poll phase, and what that makes pending: at most 8 rounds. */
static int evli_run_late(evl_loop_t *loop) {
    for (; loop->priv.late_rounds < 8 && evli_pending(loop); loop->priv.late_rounds++)
        if (!evli_run_pending(loop))
            return 0;
    loop->priv.late_rounds = 0;
    return 1;
}

enum { EVLI_IDLE, EVLI_PREPARE, EVLI_CHECK }; /* the lists of watchers */

/* The three kinds of watchers differ in their list and in what their callback takes; evl_idle_t
 * stands for them all. */
static void evli_watcher_call(evl_idle_t *watcher, int kind) {
    evl_prepare_t *prepare = (evl_prepare_t *)(void *)watcher;
    evl_check_t *check = (evl_check_t *)(void *)watcher;
    if (kind == EVLI_IDLE)
        watcher->priv.cb(watcher);
    else if (kind == EVLI_PREPARE)
        prepare->priv.cb(prepare);
    else
        check->priv.cb(check);
}

/* Runs the watchers of a kind. Two links of the loop's own stand in the list meanwhile: the cursor
 * behind the one that runs, the mark behind the last one that was there at the start. So callbacks
 * may start, stop and close any watcher. */
static int evli_run_watcher_list(evl_loop_t *loop, int kind) {
    evli_link_t *list = &loop->priv.watchers[kind];
    evli_link_t *cursor = &loop->priv.cursor, *mark = &loop->priv.mark;
    if (cursor->next == NULL) {
        evli_list_push_front(list, cursor);
        evli_list_push(list, mark);
    }
    while (cursor->next != mark) {
        evl_idle_t *watcher = EVLI_OF(cursor->next, evl_idle_t, priv.link);
        if (evli_halted(loop))
            return 0;
        evli_list_remove(cursor);
        evli_list_insert_before(watcher->priv.link.next, cursor);
        EVLI_CALL(loop, evli_watcher_call(watcher, kind));
    }
    evli_list_remove(cursor);
    evli_list_remove(mark);
    return 1;
}

static inline int evli_run_watchers(evl_loop_t *loop, int kind) {
    return evli_list_empty(&loop->priv.watchers[kind]) || evli_run_watcher_list(loop, kind);
}

enum { EVLI_ASYNC_SENT = 1, EVLI_ASYNC_CLOSED = 2 };

/* Takes an async out of where evli_inbox_take has put it. */
static void evli_async_remove(evl_loop_t *loop, evl_async_t *async) {
    evli_node_t *next = async->priv.node.next;
    *async->priv.back = next;
    if (next != NULL)
        EVLI_OF(next, evl_async_t, priv.node)->priv.back = async->priv.back;
    else if (loop->priv.asyncs.end == &async->priv.node.next)
        loop->priv.asyncs.end = async->priv.back;
    async->priv.back = NULL;
}

/* Calls back the asyncs that were signalled. Clearing the state comes before the callback, so a
 * send that is too late for this one makes another. */
static int evli_run_asyncs(evl_loop_t *loop) {
    if (loop->priv.asyncs.batch == NULL) {
        evli_inbox_begin(loop, &loop->priv.asyncs);
        if (loop->priv.asyncs.batch != NULL)
            EVLI_OF(loop->priv.asyncs.batch, evl_async_t, priv.node)->priv.back =
                &loop->priv.asyncs.batch;
        loop->priv.events += loop->priv.asyncs.batch != NULL;
    }
    while (loop->priv.asyncs.batch != NULL) {
        evl_async_t *async = EVLI_OF(loop->priv.asyncs.batch, evl_async_t, priv.node);
        if (evli_halted(loop))
            return 0;
        evli_async_remove(loop, async);
        evli_exchange(&async->priv.state, 0);
        if (async->priv.cb != NULL)
            EVLI_CALL(loop, async->priv.cb(async));
    }
    return 1;
}

typedef struct {
    evli_node_t node;
    evl_task_cb cb;
    void *arg;
} evli_post_t;

static int evli_run_posts(evl_loop_t *loop) {
    if (loop->priv.posts.batch == NULL)
        evli_inbox_begin(loop, &loop->priv.posts);
    while (loop->priv.posts.batch != NULL) {
        evli_post_t *post = EVLI_OF(loop->priv.posts.batch, evli_post_t, node);
        evl_task_cb cb = post->cb;
        void *arg = post->arg;
        if (evli_halted(loop))
            return 0;
        loop->priv.posts.batch = post->node.next;
        evli_free(post);
        EVLI_CALL(loop, cb(loop, arg));
    }
    return 1;
}

/* What is done for a request on a thread, and how its callback is made. A job points to its kind, so that
 * a linker leaves out the kinds that a program has no use for. */
typedef struct evli_job_kind_s {
    void (*run)(evli_job_t *job);
    void (*done)(evl_loop_t *loop, evli_job_t *job);
    int slow; /* it may take long: see the pool */
} evli_job_kind_t;

#if defined(EVLOOP_NO_THREADS)

static void evli_job_run_here(evli_job_t *job) {
    if (job->pool != NULL)
        job->pool->priv.queued--;
    if (job->error != 0)
        return;
    job->kind->run(job);
    if (job->pool != NULL)
        job->pool->priv.completed++;
}

#else

/* It has run already. */
static void evli_job_run_here(evli_job_t *job) {
    (void)job;
}

#endif

/* Calls back the requests that came back from the pool. */
static int evli_run_jobs(evl_loop_t *loop) {
    if (loop->priv.done.batch == NULL)
        evli_inbox_begin(loop, &loop->priv.done);
    while (loop->priv.done.batch != NULL) {
        evli_job_t *job = EVLI_OF(loop->priv.done.batch, evli_job_t, in.node);
        if (evli_halted(loop))
            return 0;
        loop->priv.done.batch = job->in.node.next;
        evli_list_remove(&job->own);
        loop->priv.active_reqs--;
        evli_job_run_here(job);
        job->kind->done(loop, job);
    }
    return 1;
}

/* A task of the slab: an immediate, a timeout or an interval. */
typedef struct evli_task_s {
    evli_link_t link; /* immediates: in the queue; free ones: `next` alone */
    evl_task_cb cb;
    void *arg;
    evli_due_t due;
    uint64_t repeat_ns;
    uint32_t index;      /* in the slab */
    uint32_t generation; /* of the id; counts up when the task is freed */
    uint32_t state;      /* EVLI_TASK_… */
} evli_task_t;

enum { EVLI_TASK_FREE, EVLI_TASK_IMMEDIATE, EVLI_TASK_TIMEOUT, EVLI_TASK_INTERVAL };

static void evli_task_free(evl_loop_t *loop, evli_task_t *task) {
    evli_list_remove(&task->link);
    evli_due_stop(loop, &task->due);
    task->state = EVLI_TASK_FREE;
    task->generation++;
    task->link.next = (evli_link_t *)loop->priv.tasks.free_list;
    loop->priv.tasks.free_list = task;
    loop->priv.active_tasks--;
}

static int evli_run_immediates(evl_loop_t *loop) {
    if (evli_list_empty(&loop->priv.immediate_batch))
        evli_list_splice(&loop->priv.immediate_batch, &loop->priv.immediates);
    while (!evli_list_empty(&loop->priv.immediate_batch)) {
        evli_task_t *task = EVLI_OF(loop->priv.immediate_batch.next, evli_task_t, link);
        evl_task_cb cb = task->cb;
        void *arg = task->arg;
        if (evli_halted(loop))
            return 0;
        evli_task_free(loop, task);
        EVLI_CALL(loop, cb(loop, arg));
    }
    return 1;
}

/* Finishes the handles that were closed, the last one first, as libuv does. */
static int evli_run_closing(evl_loop_t *loop) {
    if (evli_list_empty(&loop->priv.closing_batch))
        evli_list_splice(&loop->priv.closing_batch, &loop->priv.closing);
    while (!evli_list_empty(&loop->priv.closing_batch)) {
        evl_handle_t *handle = EVLI_OF(loop->priv.closing_batch.next, evl_handle_t, link);
        const evli_handle_type_t *type = evli_handle_type_of(handle->type);
        evl_close_cb close_cb = handle->close_cb;
        if (evli_halted(loop) || (type->finish != NULL && !type->finish(handle)))
            return 0;
        evli_list_remove(&handle->link);
        handle->flags |= EVLI_H_CLOSED;
        if (close_cb != NULL)
            EVLI_CALL(loop, close_cb(handle));
    }
    return 1;
}

/* Runs the deadlines that were due when the pass began. */
static int evli_run_timers(evl_loop_t *loop) {
    while (loop->priv.heap.taken > 0) {
        evli_due_t *due;
        if (evli_halted(loop))
            return 0;
        due = evli_due_next(loop);
        if (due != NULL)
            evli_due_function(due->kind)(loop, due);
    }
    return 1;
}

static void evli_begin_timers(evl_loop_t *loop) {
    evli_now_read(loop);
    loop->priv.pass_ns = loop->priv.now_ns;
    evli_due_take(loop, loop->priv.pass_ns);
}

/* ==== [SECTION] Running ==== */

static int evli_alive(const evl_loop_t *loop) {
    return loop->priv.active_handles > 0 || loop->priv.active_reqs > 0 ||
           loop->priv.active_tasks > 0 || evli_pending(loop) ||
           !evli_list_empty(&loop->priv.closing) || loop->priv.phase != EVLI_PHASE_NONE ||
           (loop->priv.turn & EVLI_TURN_TASKS) || evli_posted(loop);
}

/* How long the loop may sleep. The clock is read anew: the cached time is from before the timers'
 * callbacks. */
static uint64_t evli_timeout_ns(evl_loop_t *loop) {
    evli_due_t *first;
    uint64_t due, now;
    if (evli_load(&loop->priv.stop) || loop->priv.phase != EVLI_PHASE_NONE ||
        loop->priv.active_handles + loop->priv.active_reqs + loop->priv.active_tasks == 0 ||
        (loop->priv.turn & EVLI_TURN_TASKS) || evli_pending(loop) ||
        !evli_list_empty(&loop->priv.ready) || !evli_list_empty(&loop->priv.watchers[EVLI_IDLE]) ||
        !evli_list_empty(&loop->priv.closing) || !evli_list_empty(&loop->priv.immediates) ||
        evli_sent(loop))
        return 0;
    first = evli_due_first(loop);
    due = first != NULL ? first->due_ns : EVLI_NEVER;
    if (loop->priv.wake_ns != 0 && loop->priv.wake_ns < due)
        due = loop->priv.wake_ns;
    if (due >= EVLI_FAR)
        return EVLI_NEVER;
    now = evli_sys_clock();
    return due > now ? due - now : 0;
}

/* Sets how long the loop has slept, for any thread to read. */
static void evli_idle_set(evl_loop_t *loop, uint64_t slept_ns, uint64_t entered_ns) {
    evli_fetch_add(&loop->priv.idle.version, 1);
    evli_store(&loop->priv.idle.slept[0], (uint32_t)slept_ns);
    evli_store(&loop->priv.idle.slept[1], (uint32_t)(slept_ns >> 32));
    evli_store(&loop->priv.idle.entered[0], (uint32_t)entered_ns);
    evli_store(&loop->priv.idle.entered[1], (uint32_t)(entered_ns >> 32));
    evli_fetch_add(&loop->priv.idle.version, 1);
}

static uint64_t evli_idle_get(const uint32_t halves[2]) {
    return (uint64_t)evli_load(&halves[1]) << 32 | evli_load(&halves[0]);
}

/* Reads it, again until nobody has written meanwhile. */
EVLOOP_API uint64_t evl_metrics_idle_time(evl_loop_t *loop) {
    uint64_t slept, entered, now;
    uint32_t version;
    for (;;) {
        version = evli_load(&loop->priv.idle.version);
        slept = evli_idle_get(loop->priv.idle.slept);
        entered = evli_idle_get(loop->priv.idle.entered);
        if (version % 2 == 0 && evli_load(&loop->priv.idle.version) == version)
            break;
        evli_sys_yield();
    }
    now = entered != 0 ? evli_sys_clock() : 0;
    return now > entered ? slept + (now - entered) : slept;
}

/* Whether an iteration that has heard of no event has nothing more to call. */
static inline int evli_quiet(const evl_loop_t *loop) {
    return loop->priv.heap.count == 0 && evli_list_empty(&loop->priv.ready) &&
           evli_list_empty(&loop->priv.watchers[EVLI_CHECK]) && !evli_pending(loop) &&
           evli_list_empty(&loop->priv.immediates) && evli_list_empty(&loop->priv.closing) &&
           !evli_sent(loop);
}

/* Waits once. */
static int evli_wait(evl_loop_t *loop, uint64_t timeout_ns) {
    uint64_t before = 0;
    int n, asleep = 0;
    if (timeout_ns > 0) {
        asleep = evli_inbox_sleep(loop);
        if (!asleep || evli_load(&loop->priv.stop)) /* looks for it last: see evl_post_stop */
            timeout_ns = 0;
        if (loop->priv.flags & EVLI_L_IDLE_TIME)
            before = evli_sys_clock();
    }
    if (before != 0)
        evli_idle_set(loop, evli_idle_get(loop->priv.idle.slept), before);
    n = loop->priv.backend->wait(loop, timeout_ns);
    if (asleep)
        evli_inbox_awake(loop);
    if (n == 0 && timeout_ns == 0 && before == 0 && evli_quiet(loop)) {
        loop->priv.flags |= EVLI_L_NOW_UNREAD;
        return 0;
    }
    evli_now_read(loop);
    if (before != 0)
        evli_idle_set(loop, evli_idle_get(loop->priv.idle.slept) + loop->priv.now_ns - before, 0);
    if (n > 0)
        loop->priv.events += (uint64_t)n;
    if (n > 0 && timeout_ns == 0)
        loop->priv.events_waiting += (uint64_t)n;
    return n;
}

/* The poll phase's wait. A signal does not end it, but what the signal's handler sent does. Where the
 * time asleep is counted, a look comes before each sleep: what is there already costs none. */
static int evli_poll_phase(evl_loop_t *loop, int may_sleep) {
    int n, looked = 0, again;
    loop->priv.loop_count++;
    do {
        uint64_t timeout_ns = may_sleep ? evli_timeout_ns(loop) : 0;
        looked = timeout_ns > 0 && !looked && (loop->priv.flags & EVLI_L_IDLE_TIME);
        n = evli_wait(loop, looked ? 0 : timeout_ns);
        again = n == EVL_EINTR ? timeout_ns > 0 : looked && n == 0;
    } while (again);
    return n < 0 && n != EVL_EINTR ? n : 0;
}

/* Runs a phase, unless a halted iteration is past it. A halted loop leaves evli_iterate there, and the
 * next run comes back to it. */
#define EVLI_PHASE(name, call)                                                                     \
    if (phase <= (name) && !(call)) {                                                              \
        loop->priv.phase = (name);                                                                 \
        return err;                                                                                \
    }

/* One iteration, or the rest of one that was halted. Returns 0, or the poller's error. */
static int evli_iterate(evl_loop_t *loop, evl_run_mode mode) {
    uint32_t phase = loop->priv.phase;
    int err = 0;
    int may_sleep = mode == EVL_RUN_DEFAULT || (mode == EVL_RUN_ONCE && !evli_pending(loop) &&
                                                evli_list_empty(&loop->priv.watchers[EVLI_IDLE]));
    loop->priv.phase = EVLI_PHASE_NONE;
    EVLI_PHASE(EVLI_PHASE_PENDING, evli_run_pending(loop))
    EVLI_PHASE(EVLI_PHASE_IDLE, evli_run_watchers(loop, EVLI_IDLE))
    EVLI_PHASE(EVLI_PHASE_PREPARE, evli_run_watchers(loop, EVLI_PREPARE))
    EVLI_PHASE(EVLI_PHASE_POLL, !evli_halted(loop))
    if (phase <= EVLI_PHASE_POLL)
        err = evli_poll_phase(loop, may_sleep);
    if (loop->priv.flags & EVLI_L_NOW_UNREAD) /* and nothing to do */
        return err;
    EVLI_PHASE(EVLI_PHASE_READY, evli_run_ios(loop, &loop->priv.ready))
    EVLI_PHASE(EVLI_PHASE_ASYNC, evli_run_asyncs(loop))
    EVLI_PHASE(EVLI_PHASE_POSTS, evli_run_posts(loop))
    EVLI_PHASE(EVLI_PHASE_JOBS, evli_run_jobs(loop))
    EVLI_PHASE(EVLI_PHASE_LATE, evli_run_late(loop))
    EVLI_PHASE(EVLI_PHASE_CHECK, evli_run_watchers(loop, EVLI_CHECK))
    EVLI_PHASE(EVLI_PHASE_IMMEDIATES, evli_run_immediates(loop))
    EVLI_PHASE(EVLI_PHASE_CLOSING, evli_run_closing(loop))
    EVLI_PHASE(EVLI_PHASE_CLOCK, !evli_halted(loop))
    if (phase <= EVLI_PHASE_CLOCK)
        evli_begin_timers(loop);
    EVLI_PHASE(EVLI_PHASE_TIMERS, evli_run_timers(loop))
    return err;
}

/* Enters the loop: what was queued outside is drained. */
static void evli_enter(evl_loop_t *loop) {
    loop->priv.flags |= EVLI_L_RUNNING;
    loop->priv.fresh_ns = 0;
    if (loop->priv.flags & EVLI_L_LENT)
        evli_inbox_awake(loop);
    if (loop->priv.turn & (EVLI_TURN_TASKS | EVLI_TURN_CHECKPOINT))
        evli_drain(loop);
}

/* Leaves it. What was sent too late for this run makes the backend's descriptor readable. */
static void evli_leave(evl_loop_t *loop) {
    evli_store(&loop->priv.stop, 0);
    loop->priv.flags &= ~(uint32_t)(EVLI_L_RUNNING | EVLI_L_HALTED);
    loop->priv.fresh_ns = 0;
    if (loop->priv.flags & EVLI_L_LENT)
        evli_inbox_rest(loop);
}

/* Iterates: once, or to the end, or within a budget as long as the last iteration has called somebody,
 * for there may be more. One function calls the next once from here down to the wait, so that they make
 * up one: what returns after a system call does so unpredicted, and slowly. */
static int evli_run(evl_loop_t *loop, evl_run_mode mode, int budget) {
    int alive, err = 0;
    evli_enter(loop);
    alive = evli_alive(loop);
    if (!alive)
        evli_now_read(loop);
    if (alive && mode == EVL_RUN_DEFAULT && loop->priv.phase == EVLI_PHASE_NONE &&
        !evli_load(&loop->priv.stop)) {
        evli_begin_timers(loop);
        evli_run_timers(loop);
    }
    while (alive && err >= 0 && !evli_halted(loop) && !evli_load(&loop->priv.stop)) {
        loop->priv.callbacks = 0;
        err = evli_iterate(loop, mode);
        alive = evli_alive(loop);
        if (budget ? loop->priv.callbacks == 0 : mode != EVL_RUN_DEFAULT)
            break;
    }
    loop->priv.turn &= ~(uint32_t)EVLI_TURN_BUDGET;
    evli_leave(loop);
    return err < 0 ? err : alive;
}

EVLOOP_API int evl_run(evl_loop_t *loop, evl_run_mode mode) {
    if (mode != EVL_RUN_DEFAULT && mode != EVL_RUN_ONCE && mode != EVL_RUN_NOWAIT)
        return EVL_EINVAL;
    if (loop->priv.flags & EVLI_L_RUNNING)
        return EVL_EBUSY;
    return evli_run(loop, mode, 0);
}

EVLOOP_API int evl_run_for(evl_loop_t *loop, uint64_t budget_ns) {
    if (loop->priv.flags & EVLI_L_RUNNING)
        return EVL_EBUSY;
    loop->priv.deadline_ns = evli_add_ns(evli_sys_clock(), budget_ns);
    loop->priv.turn |= EVLI_TURN_BUDGET;
    if (budget_ns == 0)
        loop->priv.flags |= EVLI_L_HALTED;
    return evli_run(loop, EVL_RUN_NOWAIT, 1);
}

EVLOOP_API void evl_stop(evl_loop_t *loop) {
    evli_store(&loop->priv.stop, 1);
}

EVLOOP_API int evl_loop_alive(const evl_loop_t *loop) {
    return evli_alive(loop);
}

/* From now on the descriptor tells of what is sent while the loop does not run. */
EVLOOP_API int evl_backend_fd(const evl_loop_t *loop) {
    evl_loop_t *lender = (evl_loop_t *)(uintptr_t)loop;
    int fd = loop->priv.backend->fd(loop);
    if (fd >= 0 && !(loop->priv.flags & EVLI_L_LENT)) {
        lender->priv.flags |= EVLI_L_LENT;
        if (!(loop->priv.flags & EVLI_L_RUNNING))
            evli_inbox_rest(lender);
    }
    return fd;
}

EVLOOP_API int evl_backend_timeout(const evl_loop_t *loop) {
    /* Looking at the first deadline may put the heap right, which changes nothing that shows. */
    uint64_t ns = evli_timeout_ns((evl_loop_t *)(uintptr_t)loop);
    uint64_t ms = ns / EVLI_NS_PER_MS + (ns % EVLI_NS_PER_MS != 0);
    if (ns == EVLI_NEVER)
        return -1;
    return ms > INT_MAX ? INT_MAX : (int)ms;
}

EVLOOP_API int evl_metrics_info(evl_loop_t *loop, evl_metrics_t *metrics) {
    metrics->loop_count = loop->priv.loop_count;
    metrics->events = loop->priv.events;
    metrics->events_waiting = loop->priv.events_waiting;
    return 0;
}

/* ==== [SECTION] Loop lifetime ==== */

static evl_loop_t evli_default_loop;
static evl_loop_t *evli_default_loop_ptr;

static const evli_backend_t *const evli_backends[] = {
#if EVLI_HAVE_EPOLL
    &evli_backend_epoll,
#endif
#if EVLI_HAVE_KQUEUE
    &evli_backend_kqueue,
#endif
#if defined(_WIN32)
    &evli_backend_iocp,
#else
    &evli_backend_poll,
#endif
};

/* The backend that EVLOOP_BACKEND names, or the best one. NULL: no such name. */
static const evli_backend_t *evli_backend_choose(void) {
    const char *name = getenv("EVLOOP_BACKEND");
    size_t i;
    if (name == NULL || name[0] == '\0')
        return evli_backends[0];
    for (i = 0; i < EVLI_COUNT(evli_backends); i++)
        if (strcmp(evli_backends[i]->name, name) == 0)
            return evli_backends[i];
    return NULL;
}

EVLOOP_API int evl_loop_init(evl_loop_t *loop) {
    const evli_backend_t *backend = evli_backend_choose();
    int err, i;
    if (backend == NULL)
        return EVL_EINVAL;
    memset(&loop->priv, 0, sizeof(loop->priv));
    evli_list_init(&loop->priv.handles);
    evli_list_init(&loop->priv.pending);
    loop->priv.written_end = &loop->priv.written;
    evli_list_init(&loop->priv.ready);
    evli_list_init(&loop->priv.batch);
    evli_list_init(&loop->priv.closing);
    evli_list_init(&loop->priv.closing_batch);
    evli_list_init(&loop->priv.immediates);
    evli_list_init(&loop->priv.immediate_batch);
    evli_list_init(&loop->priv.jobs);
    loop->priv.asyncs.end = &loop->priv.asyncs.taken;
    loop->priv.posts.end = &loop->priv.posts.taken;
    loop->priv.done.end = &loop->priv.done.taken;
    for (i = 0; i < (int)EVLI_COUNT(loop->priv.watchers); i++)
        evli_list_init(&loop->priv.watchers[i]);
    loop->priv.backend = backend;
    err = backend->init(loop);
    if (err != 0)
        return err;
    evli_now_read(loop);
    return 0;
}

static int evli_loop_busy(const evl_loop_t *loop) {
    return (loop->priv.flags & EVLI_L_RUNNING) || !evli_list_empty(&loop->priv.handles) ||
           loop->priv.active_reqs > 0 || evli_alive(loop) ||
           !evli_list_empty(&loop->priv.closing_batch);
}

EVLOOP_API int evl_loop_close(evl_loop_t *loop) {
    uint32_t i;
    if (evli_loop_busy(loop))
        return EVL_EBUSY;
    while (evli_load(&loop->priv.stoppers) > 0 || evli_load(&loop->priv.wakes) != loop->priv.owed)
        evli_sys_yield(); /* for those who have sent already and are about to wake the loop */
    loop->priv.backend->destroy(loop);
    for (i = 0; i < loop->priv.tasks.nchunks; i++)
        evli_free(loop->priv.tasks.chunks[i]);
    evli_free(loop->priv.tasks.chunks);
    evli_free(loop->priv.heap.block);
    evli_free(loop->priv.ticks.items);
    evli_free(loop->priv.microtasks.items);
    evli_free(loop->priv.lent);
    if (loop == evli_default_loop_ptr)
        evli_default_loop_ptr = NULL;
    return 0;
}

static void evli_forget_tasks(evl_loop_t *loop);
static void evli_jobs_cancel(evl_loop_t *loop);
static void evli_jobs_forked(evl_loop_t *loop);

static void evli_close_all(evl_loop_t *loop) {
    evli_link_t *link, *next;
    for (link = loop->priv.handles.next; link != &loop->priv.handles; link = next) {
        next = link->next;
        evl_close(EVLI_OF(link, evl_handle_t, link), NULL);
    }
}

EVLOOP_API int evl_loop_destroy(evl_loop_t *loop, uint64_t timeout_ms) {
    uint64_t end = evli_add_ns(evli_sys_clock(), evli_ms_to_ns(timeout_ms));
    int rounds;
    if (loop->priv.flags & EVLI_L_RUNNING)
        return EVL_EBUSY;
    for (rounds = 0;; rounds++) { /* callbacks may open new handles: those are closed in turn */
        evli_close_all(loop);
        evli_forget_tasks(loop);
        evli_jobs_cancel(loop);
        evli_store(&loop->priv.stop, 0);
        if (!evli_loop_busy(loop))
            return evl_loop_close(loop);
        if (rounds >= 8 && evli_sys_clock() >= end)
            return EVL_ETIMEDOUT;
        loop->priv.wake_ns = end; /* what runs elsewhere wakes the loop when it is done */
        evl_run(loop, EVL_RUN_ONCE);
        loop->priv.wake_ns = 0;
    }
}

EVLOOP_API int evl_loop_configure(evl_loop_t *loop, int option, ...) {
    va_list args;
    int signum, err;
    if (option == EVL_METRICS_IDLE_TIME) {
        loop->priv.flags |= EVLI_L_IDLE_TIME;
        return 0;
    }
    if (option != EVL_LOOP_BLOCK_SIGNAL)
        return EVL_ENOSYS;
    va_start(args, option);
    signum = va_arg(args, int);
    va_end(args);
    err = evli_sys_block_signal(signum);
    if (err == 0)
        loop->priv.signal = signum;
    return err;
}

EVLOOP_API evl_loop_t *evl_default_loop(void) {
    if (evli_default_loop_ptr == NULL && evl_loop_init(&evli_default_loop) == 0)
        evli_default_loop_ptr = &evli_default_loop;
    return evli_default_loop_ptr;
}

static void evli_default_pool_close(void);

EVLOOP_API void evl_library_shutdown(void) {
    if (evli_default_loop_ptr != NULL)
        evl_loop_close(evli_default_loop_ptr);
    evli_default_pool_close();
}

EVLOOP_API evl_loop_t *evl_loop_new(void) {
    evl_loop_t *loop = (evl_loop_t *)evli_calloc(1, sizeof(*loop));
    if (loop != NULL && evl_loop_init(loop) != 0) {
        evli_free(loop);
        return NULL;
    }
    return loop;
}

EVLOOP_API void evl_loop_delete(evl_loop_t *loop) {
    int is_default = loop == evli_default_loop_ptr;
    if (evl_loop_close(loop) == 0 && !is_default)
        evli_free(loop);
}

EVLOOP_API size_t evl_loop_size(void) {
    return sizeof(evl_loop_t);
}

EVLOOP_API void *evl_loop_get_data(const evl_loop_t *loop) {
    return loop->data;
}

EVLOOP_API void evl_loop_set_data(evl_loop_t *loop, void *data) {
    loop->data = data;
}

/* What other threads of the parent were just about to send does not come in the child, where they do
 * not exist; what they had sent does. */
static void evli_fork_sends(evl_loop_t *loop) {
    evli_link_t *link;
    evli_node_t *node;
    evli_inbox_take(loop);
    evli_store(&loop->priv.stoppers, 0);
    evli_store(&loop->priv.wakes, loop->priv.owed);
    for (link = loop->priv.handles.next; link != &loop->priv.handles; link = link->next) {
        evl_handle_t *handle = EVLI_OF(link, evl_handle_t, link);
        if (handle->type == EVL_ASYNC)
            evli_store(&((evl_async_t *)handle)->priv.state, 0);
    }
    for (node = loop->priv.asyncs.taken; node != NULL; node = node->next)
        evli_store(&EVLI_OF(node, evl_async_t, priv.node)->priv.state, EVLI_ASYNC_SENT);
    for (node = loop->priv.asyncs.batch; node != NULL; node = node->next)
        evli_store(&EVLI_OF(node, evl_async_t, priv.node)->priv.state, EVLI_ASYNC_SENT);
}

/* The io of a handle, or NULL. */
static evli_io_t *evli_handle_io(evl_handle_t *handle) {
    const evli_handle_type_t *type = evli_handle_type_of(handle->type);
    return type->io != NULL ? type->io(handle) : NULL;
}

EVLOOP_API int evl_loop_fork(evl_loop_t *loop) {
    evli_link_t *link;
    int first_err = 0, err = loop->priv.backend->fork(loop);
    if (err != 0)
        return err;
    evli_fork_sends(loop);
    evli_jobs_forked(loop);
    for (link = loop->priv.handles.next; link != &loop->priv.handles; link = link->next) {
        evli_io_t *io = evli_handle_io(EVLI_OF(link, evl_handle_t, link));
        if (io != NULL)
            io->armed = 0;
    }
    for (link = loop->priv.handles.next; link != &loop->priv.handles; link = link->next) {
        evli_io_t *io = evli_handle_io(EVLI_OF(link, evl_handle_t, link));
        if (io == NULL || io->want == 0)
            continue;
        err = loop->priv.backend->watch(loop, io);
        if (err == EVL_EBADF || err == EVL_EPERM) /* closed by its owner: it is told so */
            evli_io_event(loop, io, EVLI_ALL | EVLI_ERR);
        else if (err != 0 && first_err == 0)
            first_err = err;
    }
    return first_err;
}

/* ==== [SECTION] Handle functions ==== */

static void evli_handle_init(evl_loop_t *loop, evl_handle_t *handle, evl_handle_type type) {
    handle->loop = loop;
    handle->type = type;
    handle->flags = EVLI_H_REF;
    handle->close_cb = NULL;
    handle->link.next = NULL;
    evli_list_push(&loop->priv.handles, &handle->link);
}

static void evli_handle_start(evl_handle_t *handle) {
    if (handle->flags & EVLI_H_ACTIVE)
        return;
    handle->flags |= EVLI_H_ACTIVE;
    if (handle->flags & EVLI_H_REF)
        handle->loop->priv.active_handles++;
}

static void evli_handle_stop(evl_handle_t *handle) {
    if (!(handle->flags & EVLI_H_ACTIVE))
        return;
    handle->flags &= ~(uint32_t)EVLI_H_ACTIVE;
    if (handle->flags & EVLI_H_REF)
        handle->loop->priv.active_handles--;
}

#define EVLI_HANDLE(handle) ((evl_handle_t *)(handle))

EVLOOP_API int evl_is_active(const evl_handle_t *handle) {
    return (handle->flags & EVLI_H_ACTIVE) != 0;
}

EVLOOP_API int evl_is_closing(const evl_handle_t *handle) {
    return (handle->flags & (EVLI_H_CLOSING | EVLI_H_CLOSED)) != 0;
}

/* Nothing holds the closing handle any more: the next closing phase finishes it. */
static void evli_handle_released(evl_handle_t *handle) {
    if (handle->flags & EVLI_H_HELD)
        handle->loop->priv.active_reqs--;
    handle->flags &= ~(uint32_t)EVLI_H_HELD;
    evli_list_remove(&handle->link);
    evli_list_push_front(&handle->loop->priv.closing, &handle->link);
}

EVLOOP_API void evl_close(evl_handle_t *handle, evl_close_cb close_cb) {
    if (evl_is_closing(handle))
        return;
    handle->flags |= EVLI_H_CLOSING;
    handle->close_cb = close_cb;
    evli_handle_type_of(handle->type)->close(handle);
    evli_handle_stop(handle);
    if (handle->flags & EVLI_H_HELD)
        handle->loop->priv.active_reqs++; /* the loop must live to see it released */
    else
        evli_handle_released(handle);
}

EVLOOP_API void evl_ref(evl_handle_t *handle) {
    if (handle->flags & EVLI_H_REF)
        return;
    handle->flags |= EVLI_H_REF;
    if (handle->flags & EVLI_H_ACTIVE)
        handle->loop->priv.active_handles++;
}

EVLOOP_API void evl_unref(evl_handle_t *handle) {
    if (!(handle->flags & EVLI_H_REF))
        return;
    handle->flags &= ~(uint32_t)EVLI_H_REF;
    if (handle->flags & EVLI_H_ACTIVE)
        handle->loop->priv.active_handles--;
}

EVLOOP_API int evl_has_ref(const evl_handle_t *handle) {
    return (handle->flags & EVLI_H_REF) != 0;
}

/* The mark of a walk: that the handle is yet to be visited. Walks within walks have marks of their
 * own, up to eight deep. */
#define EVLI_H_UNSEEN(depth) (0x1000000u << ((depth)&7u))

static void evli_walk_mark(evli_link_t *list, uint32_t mark) {
    evli_link_t *link;
    for (link = list->next; link != list; link = link->next) {
        evl_handle_t *handle = EVLI_OF(link, evl_handle_t, link);
        if (handle->type != EVL_UNKNOWN_HANDLE)
            handle->flags |= mark;
    }
}

/* Visits each handle of a list that is marked. A cursor stands in the list meanwhile, as a handle of
 * no type, which all others who run through it pass over. */
static int evli_walk_list(evli_link_t *list, uint32_t mark, evl_walk_cb walk_cb, void *arg) {
    evl_handle_t cursor;
    int visited = 0;
    memset(&cursor, 0, sizeof(cursor));
    evli_list_push_front(list, &cursor.link);
    while (cursor.link.next != list) {
        evl_handle_t *handle = EVLI_OF(cursor.link.next, evl_handle_t, link);
        evli_list_remove(&cursor.link);
        evli_list_insert_before(handle->link.next, &cursor.link);
        if (!(handle->flags & mark))
            continue;
        handle->flags &= ~mark;
        visited++;
        walk_cb(handle, arg);
    }
    evli_list_remove(&cursor.link);
    return visited;
}

/* A handle that the callback closes moves to another list: hence the marks, and the repeated look
 * there. Handles that it makes are not marked, and not visited. */
EVLOOP_API void evl_walk(evl_loop_t *loop, evl_walk_cb walk_cb, void *arg) {
    uint32_t mark = EVLI_H_UNSEEN(loop->priv.walks++);
    evli_walk_mark(&loop->priv.handles, mark);
    evli_walk_mark(&loop->priv.closing_batch, mark);
    evli_walk_mark(&loop->priv.closing, mark);
    evli_walk_list(&loop->priv.handles, mark, walk_cb, arg);
    evli_walk_list(&loop->priv.closing_batch, mark, walk_cb, arg);
    while (evli_walk_list(&loop->priv.closing, mark, walk_cb, arg) > 0) {}
    loop->priv.walks--;
}

static const char *const evli_handle_names[] = {
    NULL,
#define XX(upper, lower) #lower,
    EVL_HANDLE_TYPE_MAP(XX)
#undef XX
        "file",
};

EVLOOP_API const char *evl_handle_type_name(evl_handle_type type) {
    return (unsigned)type < EVLI_COUNT(evli_handle_names) ? evli_handle_names[type] : NULL;
}

EVLOOP_API size_t evl_handle_size(evl_handle_type type) {
    return evli_handle_type_of(type)->size;
}

static const char *const evli_req_names[] = {NULL,
#define XX(upper, lower) #lower,
                                             EVL_REQ_TYPE_MAP(XX)
#undef XX
};

EVLOOP_API const char *evl_req_type_name(evl_req_type type) {
    return (unsigned)type < EVLI_COUNT(evli_req_names) ? evli_req_names[type] : NULL;
}

static const struct {
    evl_req_type type;
    size_t size;
} evli_req_sizes[] = {
    {EVL_REQ, sizeof(evl_req_t)},
    {EVL_WORK, sizeof(evl_work_t)},
    {EVL_RANDOM, sizeof(evl_random_t)},
    {EVL_FS, sizeof(evl_fs_t)},
    {EVL_GETADDRINFO, sizeof(evl_getaddrinfo_t)},
    {EVL_GETNAMEINFO, sizeof(evl_getnameinfo_t)},
#if EVLI_HAVE_STREAMS
    {EVL_CONNECT, sizeof(evl_connect_t)},
    {EVL_WRITE, sizeof(evl_write_t)},
    {EVL_SHUTDOWN, sizeof(evl_shutdown_t)},
    {EVL_PUMP, sizeof(evl_pump_t)},
#endif
};

EVLOOP_API size_t evl_req_size(evl_req_type type) {
    size_t i;
    for (i = 0; i < EVLI_COUNT(evli_req_sizes); i++)
        if (evli_req_sizes[i].type == type)
            return evli_req_sizes[i].size;
    return (size_t)-1;
}

EVLOOP_API evl_handle_type evl_handle_get_type(const evl_handle_t *handle) {
    return handle->type;
}

EVLOOP_API void *evl_handle_get_data(const evl_handle_t *handle) {
    return handle->data;
}

EVLOOP_API evl_loop_t *evl_handle_get_loop(const evl_handle_t *handle) {
    return handle->loop;
}

EVLOOP_API void evl_handle_set_data(evl_handle_t *handle, void *data) {
    handle->data = data;
}

EVLOOP_API evl_req_type evl_req_get_type(const evl_req_t *req) {
    return req->type;
}

EVLOOP_API void *evl_req_get_data(const evl_req_t *req) {
    return req->data;
}

EVLOOP_API void evl_req_set_data(evl_req_t *req, void *data) {
    req->data = data;
}

static void evli_print_list(const evli_link_t *list, FILE *stream, int only_active) {
    const evli_link_t *link;
    for (link = list->next; link != list; link = link->next) {
        const evl_handle_t *handle = EVLI_OF(link, evl_handle_t, link);
        if (handle->type == EVL_UNKNOWN_HANDLE || (only_active && !evl_is_active(handle)))
            continue;
        fprintf(stream, "[%c%c%c] %-8s %p\n", evl_has_ref(handle) ? 'R' : '-',
                evl_is_active(handle) ? 'A' : '-', handle->flags & EVLI_H_INTERNAL ? 'I' : '-',
                evl_handle_type_name(handle->type), (const void *)handle);
    }
}

static void evli_print_handles(evl_loop_t *loop, FILE *stream, int only_active) {
    if (loop == NULL)
        loop = evl_default_loop();
    if (loop == NULL)
        return;
    if (stream == NULL)
        stream = stderr;
    evli_print_list(&loop->priv.handles, stream, only_active);
    evli_print_list(&loop->priv.closing_batch, stream, only_active);
    evli_print_list(&loop->priv.closing, stream, only_active);
}

EVLOOP_API void evl_print_all_handles(evl_loop_t *loop, FILE *stream) {
    evli_print_handles(loop, stream, 0);
}

EVLOOP_API void evl_print_active_handles(evl_loop_t *loop, FILE *stream) {
    evli_print_handles(loop, stream, 1);
}

static int evli_handle_fd(const evl_handle_t *handle, evl_os_sock_t *fd) {
    const evli_handle_type_t *type = evli_handle_type_of(handle->type);
    if (type->io == NULL)
        return EVL_EINVAL;
    if (evl_is_closing(handle))
        return EVL_EBADF;
    *fd = type->io((evl_handle_t *)(uintptr_t)handle)->fd;
    return *fd == EVLI_NO_SOCK ? (int)EVL_EBADF : 0;
}

EVLOOP_API int evl_fileno(const evl_handle_t *handle, evl_os_fd_t *fd) {
    evl_os_sock_t found;
    int err = evli_handle_fd(handle, &found);
    if (err == 0)
        *fd = (evl_os_fd_t)found;
    return err;
}

static int evli_buffer_size(evl_handle_t *handle, int option, int *value) {
    evl_os_sock_t fd;
    if (handle == NULL || value == NULL)
        return EVL_EINVAL;
    if (handle->type != EVL_TCP)
        return EVL_ENOTSUP;
    if (evli_handle_fd(handle, &fd) != 0)
        return EVL_EBADF;
    if (*value == 0)
        return evli_sys_getsockopt(fd, SOL_SOCKET, option, value);
    return evli_sys_setsockopt(fd, SOL_SOCKET, option, value, sizeof(*value));
}

EVLOOP_API int evl_send_buffer_size(evl_handle_t *handle, int *value) {
    return evli_buffer_size(handle, SO_SNDBUF, value);
}

EVLOOP_API int evl_recv_buffer_size(evl_handle_t *handle, int *value) {
    return evli_buffer_size(handle, SO_RCVBUF, value);
}

/* ==== [SECTION] Timer functions ==== */

enum {
    EVLI_DUE_TIMER,
    EVLI_DUE_TASK,
    EVLI_DUE_READ,
    EVLI_DUE_WRITE,
    EVLI_DUE_ACCEPT,
    EVLI_DUE_KINDS
};

EVLOOP_API int evl_timer_init(evl_loop_t *loop, evl_timer_t *timer) {
    evli_handle_init(loop, EVLI_HANDLE(timer), EVL_TIMER);
    evli_due_init(&timer->priv.due, EVLI_DUE_TIMER);
    timer->priv.repeat_ns = 0;
    timer->priv.cb = NULL;
    return 0;
}

static int evli_timer_start(evl_timer_t *timer, evl_timer_cb cb, uint64_t timeout,
                            uint64_t repeat) {
    evl_loop_t *loop = timer->loop;
    int err;
    if (cb == NULL || evl_is_closing(EVLI_HANDLE(timer)))
        return EVL_EINVAL;
    err = evli_due_start(loop, &timer->priv.due, evli_add_ns(evli_fresh_ns(loop), timeout));
    if (err != 0)
        return err;
    timer->priv.cb = cb;
    timer->priv.repeat_ns = repeat;
    evli_handle_start(EVLI_HANDLE(timer));
    return 0;
}

EVLOOP_API int evl_timer_start(evl_timer_t *timer, evl_timer_cb cb, uint64_t timeout_ms,
                               uint64_t repeat_ms) {
    return evli_timer_start(timer, cb, evli_ms_to_ns(timeout_ms), evli_ms_to_ns(repeat_ms));
}

EVLOOP_API int evl_timer_start_ns(evl_timer_t *timer, evl_timer_cb cb, uint64_t timeout_ns,
                                  uint64_t repeat_ns) {
    uint64_t most = EVLI_FAR - 1;
    return evli_timer_start(timer, cb, timeout_ns < most ? timeout_ns : most,
                            repeat_ns < most ? repeat_ns : most);
}

EVLOOP_API int evl_timer_stop(evl_timer_t *timer) {
    evli_due_stop(timer->loop, &timer->priv.due);
    evli_handle_stop(EVLI_HANDLE(timer));
    return 0;
}

EVLOOP_API int evl_timer_again(evl_timer_t *timer) {
    if (timer->priv.cb == NULL)
        return EVL_EINVAL;
    if (timer->priv.repeat_ns == 0)
        return 0;
    return evli_timer_start(timer, timer->priv.cb, timer->priv.repeat_ns, timer->priv.repeat_ns);
}

EVLOOP_API void evl_timer_set_repeat(evl_timer_t *timer, uint64_t repeat_ms) {
    timer->priv.repeat_ns = evli_ms_to_ns(repeat_ms);
}

EVLOOP_API uint64_t evl_timer_get_repeat(const evl_timer_t *timer) {
    return evli_ns_to_ms(timer->priv.repeat_ns);
}

EVLOOP_API uint64_t evl_timer_get_due_in(const evl_timer_t *timer) {
    uint64_t now = evl_now_ns(timer->loop);
    if (timer->loop->priv.fresh_ns > now) /* what a start in this callback counted from */
        now = timer->loop->priv.fresh_ns;
    if (timer->priv.due.index == 0 || timer->priv.due.due_ns <= now)
        return 0;
    if (timer->priv.due.due_ns >= EVLI_FAR)
        return evli_ns_to_ms(timer->priv.due.due_ns) - evli_ns_to_ms(now);
    return evli_ns_to_ms(timer->priv.due.due_ns - now);
}

/* A repeating timer is set again before its callback, which may then stop it. The heap has room:
 * its entry was just taken out. */
static void evli_timer_fire(evl_loop_t *loop, evli_due_t *due) {
    evl_timer_t *timer = EVLI_OF(due, evl_timer_t, priv.due);
    if (timer->priv.repeat_ns != 0)
        evli_due_start(loop, due, evli_add_ns(loop->priv.pass_ns, timer->priv.repeat_ns));
    else
        evli_handle_stop(EVLI_HANDLE(timer));
    EVLI_CALL(loop, timer->priv.cb(timer));
}

static void evli_timer_close(evl_handle_t *handle) {
    evl_timer_stop((evl_timer_t *)handle);
}

/* ==== [SECTION] Task functions ==== */

#define EVLI_TASK_CHUNK 64

EVLOOP_API int evl_next_tick(evl_loop_t *loop, evl_task_cb cb, void *arg) {
    int err = evli_ring_push(&loop->priv.ticks, cb, arg);
    if (err == 0)
        loop->priv.turn |= EVLI_TURN_TASKS;
    return err;
}

EVLOOP_API int evl_queue_microtask(evl_loop_t *loop, evl_task_cb cb, void *arg) {
    int err = evli_ring_push(&loop->priv.microtasks, cb, arg);
    if (err == 0)
        loop->priv.turn |= EVLI_TURN_TASKS;
    return err;
}

EVLOOP_API void evl_set_microtask_checkpoint(evl_loop_t *loop, evl_task_cb cb, void *arg) {
    loop->priv.checkpoint_cb = cb;
    loop->priv.checkpoint_arg = arg;
    if (cb != NULL)
        loop->priv.turn |= EVLI_TURN_CHECKPOINT;
    else
        loop->priv.turn &= ~(uint32_t)EVLI_TURN_CHECKPOINT;
}

/* Adds a chunk to the slab. Tasks never move: the timer heap points into them. */
static int evli_task_chunk(evl_loop_t *loop) {
    uint32_t i, n = loop->priv.tasks.nchunks;
    evli_task_t **chunks = (evli_task_t **)evli_memory.realloc_func(
        loop->priv.tasks.chunks, (n + 1) * sizeof(evli_task_t *));
    if (chunks == NULL)
        return EVL_ENOMEM;
    loop->priv.tasks.chunks = chunks;
    chunks[n] = (evli_task_t *)evli_calloc(EVLI_TASK_CHUNK, sizeof(evli_task_t));
    if (chunks[n] == NULL)
        return EVL_ENOMEM;
    loop->priv.tasks.nchunks++;
    for (i = EVLI_TASK_CHUNK; i-- > 0;) {
        evli_task_t *task = &chunks[n][i];
        task->index = n * EVLI_TASK_CHUNK + i;
        evli_due_init(&task->due, EVLI_DUE_TASK);
        task->link.next = (evli_link_t *)loop->priv.tasks.free_list;
        loop->priv.tasks.free_list = task;
    }
    return 0;
}

/* Takes a task out of the slab. NULL: no memory. */
static evli_task_t *evli_task_new(evl_loop_t *loop, uint32_t state, evl_task_cb cb, void *arg) {
    evli_task_t *task;
    if (loop->priv.tasks.free_list == NULL && evli_task_chunk(loop) != 0)
        return NULL;
    task = loop->priv.tasks.free_list;
    loop->priv.tasks.free_list = (evli_task_t *)(void *)task->link.next;
    task->link.next = task->link.prev = NULL;
    task->state = state;
    task->cb = cb;
    task->arg = arg;
    loop->priv.active_tasks++;
    return task;
}

/* An id is the place in the slab and how often that was used, so an old one finds nothing. */
static void evli_task_tell(const evli_task_t *task, evl_task_id *id) {
    if (id != NULL)
        *id = (uint64_t)task->generation << 32 | (task->index + 1);
}

EVLOOP_API int evl_set_immediate(evl_loop_t *loop, evl_task_cb cb, void *arg, evl_task_id *id) {
    evli_task_t *task;
    if (cb == NULL)
        return EVL_EINVAL;
    task = evli_task_new(loop, EVLI_TASK_IMMEDIATE, cb, arg);
    if (task == NULL)
        return EVL_ENOMEM;
    evli_list_push(&loop->priv.immediates, &task->link);
    evli_task_tell(task, id);
    return 0;
}

static int evli_set_timed(evl_loop_t *loop, uint32_t state, uint64_t ms, evl_task_cb cb, void *arg,
                          evl_task_id *id) {
    evli_task_t *task;
    if (cb == NULL)
        return EVL_EINVAL;
    task = evli_task_new(loop, state, cb, arg);
    if (task == NULL)
        return EVL_ENOMEM;
    task->repeat_ns = evli_ms_to_ns(ms);
    if (evli_due_start(loop, &task->due, evli_add_ns(evli_fresh_ns(loop), task->repeat_ns)) != 0) {
        evli_task_free(loop, task);
        return EVL_ENOMEM;
    }
    evli_task_tell(task, id);
    return 0;
}

EVLOOP_API int evl_set_timeout(evl_loop_t *loop, uint64_t ms, evl_task_cb cb, void *arg,
                               evl_task_id *id) {
    return evli_set_timed(loop, EVLI_TASK_TIMEOUT, ms, cb, arg, id);
}

EVLOOP_API int evl_set_interval(evl_loop_t *loop, uint64_t ms, evl_task_cb cb, void *arg,
                                evl_task_id *id) {
    return evli_set_timed(loop, EVLI_TASK_INTERVAL, ms, cb, arg, id);
}

EVLOOP_API int evl_clear_task(evl_loop_t *loop, evl_task_id id) {
    uint32_t index = (uint32_t)id - 1;
    evli_task_t *task;
    if ((uint32_t)id == 0 || index / EVLI_TASK_CHUNK >= loop->priv.tasks.nchunks)
        return EVL_ENOENT;
    task = &loop->priv.tasks.chunks[index / EVLI_TASK_CHUNK][index % EVLI_TASK_CHUNK];
    if (task->state == EVLI_TASK_FREE || task->generation != (uint32_t)(id >> 32))
        return EVL_ENOENT;
    evli_task_free(loop, task);
    return 0;
}

static void evli_task_fire(evl_loop_t *loop, evli_due_t *due) {
    evli_task_t *task = EVLI_OF(due, evli_task_t, due);
    evl_task_cb cb = task->cb;
    void *arg = task->arg;
    if (task->state == EVLI_TASK_INTERVAL)
        evli_due_start(loop, due, evli_add_ns(loop->priv.pass_ns, task->repeat_ns));
    else
        evli_task_free(loop, task);
    EVLI_CALL(loop, cb(loop, arg));
}

/* For evl_loop_destroy. Posts are not forgotten: somebody's memory hangs on their running. */
static void evli_forget_tasks(evl_loop_t *loop) {
    uint32_t i;
    for (i = 0; i < loop->priv.tasks.nchunks * EVLI_TASK_CHUNK; i++) {
        evli_task_t *task = &loop->priv.tasks.chunks[i / EVLI_TASK_CHUNK][i % EVLI_TASK_CHUNK];
        if (task->state != EVLI_TASK_FREE)
            evli_task_free(loop, task);
    }
    loop->priv.ticks.count = loop->priv.microtasks.count = 0;
    loop->priv.turn &= ~(uint32_t)EVLI_TURN_TASKS;
}

/* ==== [SECTION] Watcher functions ==== */

static int evli_watcher_init(evl_loop_t *loop, evl_handle_t *handle, evl_handle_type type) {
    evl_idle_t *watcher = (evl_idle_t *)handle;
    evli_handle_init(loop, handle, type);
    watcher->priv.link.next = watcher->priv.link.prev = NULL;
    watcher->priv.cb = NULL;
    return 0;
}

/* Whether a start would do something: 1, or 0 if the watcher is active, or an error. */
static int evli_watcher_may_start(const evl_handle_t *handle, int has_cb) {
    if (evl_is_active(handle))
        return 0;
    return has_cb && !evl_is_closing(handle) ? 1 : EVL_EINVAL;
}

static void evli_watcher_start(evl_handle_t *handle, int kind) {
    evli_list_push(&handle->loop->priv.watchers[kind], &((evl_idle_t *)handle)->priv.link);
    evli_handle_start(handle);
}

static int evli_watcher_stop(evl_handle_t *handle) {
    evli_list_remove(&((evl_idle_t *)handle)->priv.link);
    evli_handle_stop(handle);
    return 0;
}

static void evli_watcher_close(evl_handle_t *handle) {
    evli_watcher_stop(handle);
}

EVLOOP_API int evl_idle_init(evl_loop_t *loop, evl_idle_t *idle) {
    return evli_watcher_init(loop, EVLI_HANDLE(idle), EVL_IDLE);
}

EVLOOP_API int evl_idle_start(evl_idle_t *idle, evl_idle_cb cb) {
    int may = evli_watcher_may_start(EVLI_HANDLE(idle), cb != NULL);
    if (may <= 0)
        return may;
    idle->priv.cb = cb;
    evli_watcher_start(EVLI_HANDLE(idle), EVLI_IDLE);
    return 0;
}

EVLOOP_API int evl_idle_stop(evl_idle_t *idle) {
    return evli_watcher_stop(EVLI_HANDLE(idle));
}

EVLOOP_API int evl_prepare_init(evl_loop_t *loop, evl_prepare_t *prepare) {
    return evli_watcher_init(loop, EVLI_HANDLE(prepare), EVL_PREPARE);
}

EVLOOP_API int evl_prepare_start(evl_prepare_t *prepare, evl_prepare_cb cb) {
    int may = evli_watcher_may_start(EVLI_HANDLE(prepare), cb != NULL);
    if (may <= 0)
        return may;
    prepare->priv.cb = cb;
    evli_watcher_start(EVLI_HANDLE(prepare), EVLI_PREPARE);
    return 0;
}

EVLOOP_API int evl_prepare_stop(evl_prepare_t *prepare) {
    return evli_watcher_stop(EVLI_HANDLE(prepare));
}

EVLOOP_API int evl_check_init(evl_loop_t *loop, evl_check_t *check) {
    return evli_watcher_init(loop, EVLI_HANDLE(check), EVL_CHECK);
}

EVLOOP_API int evl_check_start(evl_check_t *check, evl_check_cb cb) {
    int may = evli_watcher_may_start(EVLI_HANDLE(check), cb != NULL);
    if (may <= 0)
        return may;
    check->priv.cb = cb;
    evli_watcher_start(EVLI_HANDLE(check), EVLI_CHECK);
    return 0;
}

EVLOOP_API int evl_check_stop(evl_check_t *check) {
    return evli_watcher_stop(EVLI_HANDLE(check));
}

/* ==== [SECTION] Async and posts ==== */

EVLOOP_API int evl_async_init(evl_loop_t *loop, evl_async_t *async, evl_async_cb cb) {
    evli_handle_init(loop, EVLI_HANDLE(async), EVL_ASYNC);
    async->priv.node.next = NULL;
    async->priv.back = NULL;
    async->priv.cb = cb;
    async->priv.state = 0;
    evli_handle_start(EVLI_HANDLE(async));
    return 0;
}

EVLOOP_API int evl_async_send(evl_async_t *async) {
    /* A read-modify-write even when it is sent already: that is what publishes the sender's data. */
    uint32_t before = evli_fetch_or(&async->priv.state, EVLI_ASYNC_SENT);
    if (before & EVLI_ASYNC_CLOSED)
        return EVL_EINVAL;
    if (!(before & EVLI_ASYNC_SENT))
        evli_send(async->loop, &async->priv.node, EVLI_NODE_ASYNC);
    return 0;
}

/* From here on no sender touches the handle, but one may be about to deliver it: wait for that. */
static void evli_async_close(evl_handle_t *handle) {
    evl_async_t *async = (evl_async_t *)handle;
    uint32_t before = evli_fetch_or(&async->priv.state, EVLI_ASYNC_SENT | EVLI_ASYNC_CLOSED);
    if (!(before & EVLI_ASYNC_SENT))
        return;
    for (evli_inbox_take(handle->loop); async->priv.back == NULL; evli_inbox_take(handle->loop))
        evli_sys_yield();
    evli_async_remove(handle->loop, async);
}

EVLOOP_API int evl_post(evl_loop_t *loop, evl_task_cb cb, void *arg) {
    evli_post_t *post;
    if (cb == NULL)
        return EVL_EINVAL;
    post = (evli_post_t *)evli_malloc(sizeof(*post));
    if (post == NULL)
        return EVL_ENOMEM;
    post->cb = cb;
    post->arg = arg;
    evli_send(loop, &post->node, EVLI_NODE_POST);
    return 0;
}

/* The loop looks for `stop` after it has shown that it sleeps, and the other way round here. */
EVLOOP_API int evl_post_stop(evl_loop_t *loop) {
    evli_node_t *asleep = EVLI_ASLEEP;
    evli_fetch_add(&loop->priv.stoppers, 1);
    evli_exchange(&loop->priv.stop, 1);
    if (evli_cas_node(&loop->priv.inbox, &asleep, NULL))
        loop->priv.backend->wake(loop);
    evli_fetch_add(&loop->priv.stoppers, (uint32_t)-1);
    return 0;
}

/* ==== [SECTION] Address functions ==== */

/* The length of an address, or 0 if it is neither IPv4 nor IPv6. */
EVLI_SPARE socklen_t evli_sockaddr_len(const struct sockaddr *addr) {
    if (addr == NULL)
        return 0;
    if (addr->sa_family == AF_INET)
        return sizeof(struct sockaddr_in);
    return addr->sa_family == AF_INET6 ? (socklen_t)sizeof(struct sockaddr_in6) : 0;
}

/* Four decimal numbers without leading zeros, ending at the text's end or a scope's '%'. Own parsers
 * and writers: the systems' differ in what they take and in how they write the same address. */
static int evli_parse_ip4(const char *src, uint8_t dst[4]) {
    int i;
    for (i = 0; i < 4; i++) {
        const char *start = src;
        unsigned value = 0;
        for (; *src >= '0' && *src <= '9'; src++) {
            value = value * 10 + (unsigned)(*src - '0');
            if (value > 255 || (src > start && *start == '0'))
                return EVL_EINVAL;
        }
        if (src == start || (i < 3 && *src++ != '.'))
            return EVL_EINVAL;
        dst[i] = (uint8_t)value;
    }
    return *src == '\0' || *src == '%' ? 0 : (int)EVL_EINVAL;
}

static int evli_hex_digit(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Groups of hexadecimal digits between colons, one run of zeros left out as "::", the last two groups
 * perhaps as an IPv4 address. */
static int evli_parse_ip6(const char *src, uint8_t dst[16]) {
    uint8_t bytes[16];
    int n = 0, gap = -1;
    if (src[0] == ':' && *++src != ':')
        return EVL_EINVAL;
    while (*src != '\0' && *src != '%') {
        const char *start = src;
        unsigned value = 0;
        if (*src == ':') { /* the second of two */
            if (gap >= 0)
                return EVL_EINVAL;
            gap = n;
            src++;
            continue;
        }
        for (; evli_hex_digit(*src) >= 0 && src - start < 5; src++)
            value = value << 4 | (unsigned)evli_hex_digit(*src);
        if (*src == '.' && n <= 12 && evli_parse_ip4(start, &bytes[n]) == 0) {
            n += 4;
            break;
        }
        if (src == start || src - start > 4 || n > 14)
            return EVL_EINVAL;
        bytes[n++] = (uint8_t)(value >> 8);
        bytes[n++] = (uint8_t)(value & 0xff);
        if (*src == ':' && (src[1] == '\0' || src[1] == '%'))
            return EVL_EINVAL;
        if (*src == ':')
            src++;
        else if (*src != '\0' && *src != '%')
            return EVL_EINVAL;
    }
    if (gap < 0 ? n != 16 : n == 16)
        return EVL_EINVAL;
    memset(dst, 0, 16);
    memcpy(dst, bytes, (size_t)(gap < 0 ? n : gap));
    if (gap >= 0)
        memcpy(dst + 16 - (n - gap), bytes + gap, (size_t)(n - gap));
    return 0;
}

EVLOOP_API int evl_inet_pton(int af, const char *src, void *dst) {
    if (src == NULL || dst == NULL)
        return EVL_EINVAL;
    if (af == AF_INET)
        return strchr(src, '%') == NULL ? evli_parse_ip4(src, (uint8_t *)dst) : (int)EVL_EINVAL;
    return af == AF_INET6 ? evli_parse_ip6(src, (uint8_t *)dst) : (int)EVL_EAFNOSUPPORT;
}

/* The longest run of zero groups, two at least, the first of equals. Returns its length, or 0. */
static int evli_longest_zeros(const unsigned groups[8], int *start) {
    int i, run = 0, best = 0;
    for (i = 0; i < 8; i++) {
        run = groups[i] == 0 ? run + 1 : 0;
        if (run > best) {
            best = run;
            *start = i + 1 - run;
        }
    }
    return best < 2 ? 0 : best;
}

static void evli_write_ip6(const uint8_t src[16], char *text, size_t room) {
    unsigned groups[8];
    int i, start = 0, zeros, length = 0;
    for (i = 0; i < 8; i++)
        groups[i] = (unsigned)src[2 * i] << 8 | src[2 * i + 1];
    zeros = evli_longest_zeros(groups, &start);
    text[0] = '\0';
    for (i = 0; i < 8; i++) {
        if (zeros > 0 && i == start) {
            length += snprintf(text + length, room - (size_t)length, "::");
            i += zeros - 1;
            continue;
        }
        if (i > 0 && !(zeros > 0 && i == start + zeros))
            text[length++] = ':';
        if (i == 6 && start == 0 &&
            (zeros == 6 || (zeros == 5 && groups[5] == 0xffff))) { /* an IPv4 address inside */
            snprintf(text + length, room - (size_t)length, "%u.%u.%u.%u", src[12], src[13], src[14],
                     src[15]);
            return;
        }
        length += snprintf(text + length, room - (size_t)length, "%x", groups[i]);
    }
}

EVLOOP_API int evl_inet_ntop(int af, const void *src, char *dst, size_t size) {
    char text[48];
    const uint8_t *bytes = (const uint8_t *)src;
    if (src == NULL || dst == NULL)
        return EVL_EINVAL;
    if (af == AF_INET)
        snprintf(text, sizeof(text), "%u.%u.%u.%u", bytes[0], bytes[1], bytes[2], bytes[3]);
    else if (af == AF_INET6)
        evli_write_ip6(bytes, text, sizeof(text));
    else
        return EVL_EAFNOSUPPORT;
    if (strlen(text) >= size)
        return EVL_ENOSPC;
    memcpy(dst, text, strlen(text) + 1);
    return 0;
}

EVLOOP_API int evl_ip4_addr(const char *ip, int port, struct sockaddr_in *addr) {
    if (addr == NULL)
        return EVL_EINVAL;
    memset(addr, 0, sizeof(*addr));
    addr->sin_family = AF_INET;
    addr->sin_port = htons((uint16_t)port);
    return evl_inet_pton(AF_INET, ip, &addr->sin_addr);
}

EVLOOP_API int evl_ip6_addr(const char *ip, int port, struct sockaddr_in6 *addr) {
    const char *scope;
    if (ip == NULL || addr == NULL)
        return EVL_EINVAL;
    memset(addr, 0, sizeof(*addr));
    addr->sin6_family = AF_INET6;
    addr->sin6_port = htons((uint16_t)port);
    scope = strchr(ip, '%');
    if (scope != NULL)
        addr->sin6_scope_id = evli_sys_scope_id(scope + 1);
    return evl_inet_pton(AF_INET6, ip, &addr->sin6_addr);
}

EVLOOP_API int evl_ip4_name(const struct sockaddr_in *src, char *dst, size_t size) {
    return evl_inet_ntop(AF_INET, &src->sin_addr, dst, size);
}

EVLOOP_API int evl_ip6_name(const struct sockaddr_in6 *src, char *dst, size_t size) {
    return evl_inet_ntop(AF_INET6, &src->sin6_addr, dst, size);
}

EVLOOP_API int evl_ip_name(const struct sockaddr *src, char *dst, size_t size) {
    if (src->sa_family == AF_INET)
        return evl_ip4_name((const struct sockaddr_in *)(const void *)src, dst, size);
    if (src->sa_family == AF_INET6)
        return evl_ip6_name((const struct sockaddr_in6 *)(const void *)src, dst, size);
    return EVL_EAFNOSUPPORT;
}

/* ==== [SECTION] Stream reading ==== */

#if EVLI_HAVE_STREAMS

#define EVLI_FAIR      32          /* calls in a row for one stream before the others' turn */
#define EVLI_LENT_SIZE (64 * 1024) /* of the loop's read buffer, and what alloc_cb is asked for */
#define EVLI_IO_MAX    ((size_t)0x7ffff000) /* bytes that a system call moves at most */

/* What few streams need. */
typedef struct evli_stream_ext_s {
    evl_stream_t *stream;
    evli_due_t read_due, write_due; /* the latter serves connecting, too */
    uint64_t connect_ns, read_ns, write_ns;
    size_t low, high, max;
    evl_flow_cb flow_cb;
    uint32_t crossings;   /* of the watermarks, not told yet */
    uint8_t above, told;  /* as the queue is, and as the user knows it: 1 from PAUSE to RESUME */
    evl_pump_t *pump_out; /* reads from this stream */
    evl_pump_t *pump_in;  /* writes to it */
} evli_stream_ext_t;

/* A listener's bounds. It outlives the listener as long as a connection counts against it. */
typedef struct evli_gate_s {
    evl_stream_t *server; /* NULL: closed */
    evl_connection_cb connection_cb;
    uint32_t open, limit;   /* connections */
    evl_os_sock_t accepted; /* announced and not taken over */
    uint32_t failures;      /* in a row, to accept for want of descriptors */
    evli_due_t retry;
} evli_gate_t;

#define EVLI_STREAM(io_ptr) EVLI_OF(io_ptr, evl_stream_t, priv.io)

static evli_io_t *evli_stream_io(evl_handle_t *handle) {
    return &((evl_stream_t *)handle)->priv.io;
}

/* Sets a stream's deadline `ns` from now; 0: stops it. */
static int evli_stream_due(evl_stream_t *stream, evli_due_t *due, uint64_t ns) {
    if (ns != 0)
        return evli_due_start(stream->loop, due, evli_add_ns(evli_sys_clock(), ns));
    evli_due_stop(stream->loop, due);
    return 0;
}

static void evli_read_halt(evl_stream_t *stream) {
    evli_io_rest(stream->loop, &stream->priv.io, EVLI_IN);
    stream->priv.read_cb = NULL;
    stream->priv.alloc_cb = NULL;
    if (stream->priv.ext != NULL)
        evli_due_stop(stream->loop, &stream->priv.ext->read_due);
    evli_handle_stop(EVLI_HANDLE(stream));
}

/* Delivery: reading has come to its end or failed. It may be started again after the end. */
static void evli_stream_read_failed(evl_stream_t *stream, int64_t err, const evl_buf_t *buf) {
    evl_read_cb read_cb = stream->priv.read_cb;
    if (err != EVL_EOF)
        stream->flags &= ~(uint32_t)(EVLI_H_READABLE | EVLI_H_WRITABLE);
    evli_read_halt(stream);
    EVLI_CALL(stream->loop, read_cb(stream, (ssize_t)err, buf));
}

/* Delivery: there is nothing to read now. Gives back a buffer of the user's. */
static void evli_stream_read_nothing(evl_stream_t *stream, const evl_buf_t *buf) {
    stream->priv.io.ready &= (uint8_t)~EVLI_IN;
    if (stream->priv.alloc_cb != NULL)
        EVLI_CALL(stream->loop, stream->priv.read_cb(stream, 0, buf));
}

/* Asks the user for a buffer. Returns whether reading may go on. */
static int evli_stream_buffer(evl_stream_t *stream, evl_buf_t *buf) {
    *buf = evl_buf_init(NULL, 0);
    stream->priv.alloc_cb(EVLI_HANDLE(stream), EVLI_LENT_SIZE, buf);
    if (!(stream->priv.io.want & EVLI_IN)) /* alloc_cb has closed or stopped it */
        return 0;
    if (buf->base != NULL && buf->len > 0)
        return 1;
    EVLI_CALL(stream->loop, stream->priv.read_cb(stream, EVL_ENOBUFS, buf));
    return 0;
}

/* Reads until the kernel has no more, the user has enough, or it is the others' turn. */
static inline void evli_stream_read(evl_stream_t *stream) {
    evl_loop_t *loop = stream->loop;
    evli_io_t *io = &stream->priv.io;
    int turns = EVLI_FAIR;
    do {
        int lent = stream->priv.alloc_cb == NULL;
        evl_buf_t buf = evl_buf_init(loop->priv.lent, EVLI_LENT_SIZE);
        size_t room;
        int64_t n;
        if (!lent && !evli_stream_buffer(stream, &buf))
            return;
        room = EVLOOP_SHORT("recv", buf.len < EVLI_IO_MAX ? buf.len : EVLI_IO_MAX);
        n = evli_io_recv(loop, io, &buf, room, lent);
        if (EVLI_LIKELY(n > 0)) {
            if (stream->priv.ext != NULL && stream->priv.ext->read_ns != 0)
                evli_stream_due(stream, &stream->priv.ext->read_due, stream->priv.ext->read_ns);
            EVLI_CALL(loop, stream->priv.read_cb(stream, (ssize_t)n, &buf));
        } else if (n == EVL_EAGAIN) {
            evli_stream_read_nothing(stream, &buf);
        } else {
            evli_stream_read_failed(stream, n < 0 ? n : (int64_t)EVL_EOF, &buf);
        }
    } while ((io->ready & io->want & EVLI_IN) && --turns > 0 && !evli_halted(loop));
}

/* Makes sure that the loop has a buffer to lend. */
static int evli_lend(evl_loop_t *loop) {
    if (loop->priv.lent == NULL)
        loop->priv.lent = (char *)evli_malloc(EVLI_LENT_SIZE);
    return loop->priv.lent == NULL ? EVL_ENOMEM : 0;
}

EVLOOP_API int evl_read_start(evl_stream_t *stream, evl_alloc_cb alloc_cb, evl_read_cb read_cb) {
    evli_io_t *io;
    int err = 0;
    if (stream == NULL || read_cb == NULL || evl_is_closing(EVLI_HANDLE(stream)))
        return EVL_EINVAL;
    if (stream->priv.read_cb != NULL)
        return EVL_EALREADY;
    if (!(stream->flags & EVLI_H_READABLE))
        return EVL_ENOTCONN;
    io = &stream->priv.io;
    if (alloc_cb == NULL)
        err = evli_lend(stream->loop);
    if (err == 0 && stream->priv.ext != NULL)
        err = evli_stream_due(stream, &stream->priv.ext->read_due, stream->priv.ext->read_ns);
    if (err == 0)
        err = evli_io_want(stream->loop, io, io->want | EVLI_IN);
    if (err != 0) {
        evli_read_halt(stream);
        return err;
    }
    stream->priv.alloc_cb = alloc_cb;
    stream->priv.read_cb = read_cb;
    evli_handle_start(EVLI_HANDLE(stream));
    return 0;
}

EVLOOP_API int evl_read_stop(evl_stream_t *stream) {
    if (stream->priv.read_cb != NULL)
        evli_read_halt(stream);
    return 0;
}

static void evli_read_timeout(evl_loop_t *loop, evli_due_t *due) {
    evli_stream_ext_t *ext = EVLI_OF(due, evli_stream_ext_t, read_due);
    evl_stream_t *stream = ext->stream;
    evl_buf_t none = evl_buf_init(NULL, 0);
    evli_stream_due(stream, due, ext->read_ns);
    EVLI_CALL(loop, stream->priv.read_cb(stream, EVL_ETIMEDOUT, &none));
}

/* ==== [SECTION] Stream writing ==== */

/* Write requests wait for the kernel in a ring of their stream, which is held by its last request, whose
 * next is the first; then for their callbacks in a list of the loop, as their handle may tell. */
static void evli_writes_push(evl_write_t **tail, evl_write_t *req) {
    if (*tail == NULL) {
        req->priv.next = req;
    } else {
        req->priv.next = (*tail)->priv.next;
        (*tail)->priv.next = req;
    }
    *tail = req;
}

static evl_write_t *evli_writes_pop(evl_write_t **tail) {
    evl_write_t *req = (*tail)->priv.next;
    if (req == *tail)
        *tail = NULL;
    else
        (*tail)->priv.next = req->priv.next;
    return req;
}

/* Watches the queue's size cross the watermarks. */
static void evli_flow_check(evl_stream_t *stream) {
    evli_stream_ext_t *ext = stream->priv.ext;
    if (ext == NULL || ext->high == 0)
        return;
    if (ext->above ? stream->write_queue_size > ext->low : stream->write_queue_size < ext->high)
        return;
    ext->above = !ext->above;
    ext->crossings++;
    evli_io_feed(stream->loop, &stream->priv.io);
}

/* The request is through: its callback comes in the next pending phase. */
static inline void evli_write_through(evl_stream_t *stream, evl_write_t *req) {
    req->priv.next = NULL;
    *stream->loop->priv.written_end = req;
    stream->loop->priv.written_end = &req->priv.next;
    stream->priv.done++;
}

/* The first request of the queue is through. */
static void evli_write_done(evl_stream_t *stream, int err) {
    evl_write_t *req = evli_writes_pop(&stream->priv.queue_tail);
    req->error = err;
    evli_write_through(stream, req);
    if (stream->priv.shutdown_req != NULL)
        evli_io_feed(stream->loop, &stream->priv.io);
}

static void evli_writes_fail(evl_stream_t *stream, int err) {
    while (stream->priv.queue_tail != NULL)
        evli_write_done(stream, err);
}

/* The queue has failed: what is left of it cannot be sent behind a gap, nor can what comes later,
 * and the peer must not take an orderly end for the whole. */
static void evli_writes_abort(evl_stream_t *stream, int err) {
    stream->flags &= ~(uint32_t)EVLI_H_WRITABLE;
    evli_io_rest(stream->loop, &stream->priv.io, EVLI_OUT);
    if (stream->priv.ext != NULL)
        evli_due_stop(stream->loop, &stream->priv.ext->write_due);
    if (stream->priv.shutdown_req != NULL) {
        stream->priv.shutdown_req->error = EVL_ECANCELED;
        evli_io_feed(stream->loop, &stream->priv.io);
    }
    evli_writes_fail(stream, err);
}

/* The deadline of the queue: as long as there is one, and anew with progress. */
static int evli_write_due(evl_stream_t *stream, int progress) {
    evli_stream_ext_t *ext = stream->priv.ext;
    if (ext == NULL || stream->priv.connect_req != NULL)
        return 0;
    if (stream->priv.queue_tail == NULL)
        evli_due_stop(stream->loop, &ext->write_due);
    else if (ext->write_ns != 0 && (progress || ext->write_due.index == 0))
        return evli_stream_due(stream, &ext->write_due, ext->write_ns);
    return 0;
}

/* Delivery: the kernel has taken `n` bytes from the head of the queue. */
static void evli_stream_written(evl_stream_t *stream, size_t n) {
    stream->write_queue_size -= n;
    while (stream->priv.queue_tail != NULL) {
        evl_write_t *req = stream->priv.queue_tail->priv.next;
        while (req->priv.index < req->priv.nbufs) {
            evl_buf_t *buf = &req->priv.bufs[req->priv.index];
            if (buf->len > n) {
                buf->base += n;
                buf->len -= (evli_len_t)n;
                return;
            }
            n -= buf->len;
            req->priv.index++;
        }
        evli_write_done(stream, 0);
    }
}

/* What is to be sent next: the rest of the first request where it lies, or, when requests are
 * queued, the first buffers of them all, gathered. */
static const evl_buf_t *evli_stream_gather(evl_stream_t *stream, evl_buf_t *room, size_t *count) {
    evl_write_t *tail = stream->priv.queue_tail, *req = tail->priv.next;
    size_t n = req->priv.nbufs - req->priv.index;
    if (req == tail || n >= EVLI_FAIR) {
        *count = n < EVLI_IOV_MAX ? n : EVLI_IOV_MAX;
        return &req->priv.bufs[req->priv.index];
    }
    for (n = 0; n < EVLI_FAIR; req = req->priv.next) {
        uint32_t i;
        for (i = req->priv.index; i < req->priv.nbufs && n < EVLI_FAIR; i++)
            room[n++] = req->priv.bufs[i];
        if (req == tail)
            break;
    }
    *count = n;
    return room;
}

/* Delivery: what a send of the head of the queue has come to. Returns whether to go on. */
static int evli_stream_sent(evl_stream_t *stream, int64_t n) {
    evli_io_t *io = &stream->priv.io;
    if (n >= 0)
        evli_stream_written(stream, (size_t)n);
    else if (n == EVL_EAGAIN)
        io->ready &= (uint8_t)~EVLI_OUT;
    else if (n == EVL_ENOBUFS) /* the system is short of memory for the moment: there is no event */
        io->ready |= EVLI_OUT;
    else
        evli_writes_abort(stream, (int)n);
    return n >= 0 && (io->ready & EVLI_OUT);
}

/* After sending: what is left of the queue waits for room. */
static void evli_stream_settle(evl_stream_t *stream, int progress) {
    evli_io_t *io = &stream->priv.io;
    int err = evli_write_due(stream, progress);
    if (stream->priv.queue_tail == NULL) {
        evli_io_rest(stream->loop, io, EVLI_OUT);
        return;
    }
    if (err == 0)
        err = evli_io_want(stream->loop, io, io->want | EVLI_OUT);
    if (err != 0)
        evli_writes_abort(stream, err);
}

/* Sends until the queue is empty, the kernel is full, or it is the others' turn. */
static void evli_stream_flush(evl_stream_t *stream, int turns) {
    evli_io_t *io = &stream->priv.io;
    int progress = 0;
    evli_stream_written(stream, 0); /* requests without bytes are through */
    while (stream->priv.queue_tail != NULL) {
        int blocking = (stream->flags & EVLI_H_BLOCKING) != 0;
        evl_buf_t room[EVLI_FAIR];
        size_t count;
        const evl_buf_t *bufs = evli_stream_gather(stream, room, &count);
        int64_t n = evli_io_send(stream->loop, io, bufs, count, blocking);
        progress |= n >= 0;
        if (!evli_stream_sent(stream, n))
            break;
        if (--turns == 0 && !blocking)
            break;
    }
    evli_stream_settle(stream, progress);
}

/* Calls back a request that is through. */
static inline void evli_write_report(evl_loop_t *loop, evl_write_t *req) {
    evl_stream_t *stream = req->handle;
    stream->priv.done--;
    if (req->priv.nbufs > 0) {
        stream->write_queue_size -=
            evli_bufs_size(req->priv.bufs + req->priv.index, req->priv.nbufs - req->priv.index);
        if (req->priv.bufs != req->priv.few)
            evli_free(req->priv.bufs);
    }
    loop->priv.active_reqs--;
    if (req->cb != NULL)
        EVLI_CALL(loop, req->cb(req, req->error));
}

/* Calls back the requests that were through when it began. */
static int evli_run_written(evl_loop_t *loop) {
    if (loop->priv.written_batch == NULL) {
        loop->priv.written_batch = loop->priv.written;
        loop->priv.written = NULL;
        loop->priv.written_end = &loop->priv.written;
    }
    while (loop->priv.written_batch != NULL) {
        evl_write_t *req = loop->priv.written_batch;
        if (evli_halted(loop))
            return 0;
        loop->priv.written_batch = req->priv.next;
        evli_write_report(loop, req);
    }
    return 1;
}

/* Takes the first request of a stream out of a list. NULL: there is none. */
static evl_write_t *evli_writes_find(evl_write_t **list, evl_write_t ***end,
                                     const evl_stream_t *stream) {
    evl_write_t *req;
    while (*list != NULL && (*list)->handle != stream)
        list = &(*list)->priv.next;
    req = *list;
    if (req != NULL) {
        *list = req->priv.next;
        if (end != NULL && *end == &req->priv.next)
            *end = list;
    }
    return req;
}

/* Calls back those of a stream that is being closed, ahead of their turn. */
static void evli_stream_report(evl_stream_t *stream) {
    evl_loop_t *loop = stream->loop;
    while (stream->priv.done > 0 && !evli_halted(loop)) {
        evl_write_t *req = evli_writes_find(&loop->priv.written_batch, NULL, stream);
        if (req == NULL)
            req = evli_writes_find(&loop->priv.written, &loop->priv.written_end, stream);
        evli_write_report(loop, req);
    }
}

/* Shuts the socket down unless there is an error already, and calls back. */
static void evli_stream_shut(evl_stream_t *stream, int err) {
    evl_shutdown_t *req = stream->priv.shutdown_req;
    if (err == 0)
        err = evli_sys_shutdown(stream->priv.io.fd);
    stream->priv.shutdown_req = NULL;
    stream->flags &= ~(uint32_t)EVLI_H_SHUTTING;
    if (err == 0)
        stream->flags |= EVLI_H_SHUT;
    stream->loop->priv.active_reqs--;
    if (req->cb != NULL)
        EVLI_CALL(stream->loop, req->cb(req, err));
}

static void evli_flow_tell(evl_stream_t *stream) {
    evli_stream_ext_t *ext = stream->priv.ext;
    while (ext != NULL && ext->crossings > 0 && !evl_is_closing(EVLI_HANDLE(stream)) &&
           !evli_halted(stream->loop)) {
        ext->crossings--;
        ext->told = !ext->told;
        if (ext->flow_cb != NULL)
            EVLI_CALL(stream->loop,
                      ext->flow_cb(stream, ext->told ? EVL_FLOW_PAUSE : EVL_FLOW_RESUME));
    }
}

/* Delivery: connected, or not. What was queued behind a connect that failed fails first, so that the
 * callback may start another one. */
static void evli_stream_connected(evl_stream_t *stream, int err) {
    evl_connect_t *req = stream->priv.connect_req;
    stream->priv.connect_req = NULL;
    evli_io_rest(stream->loop, &stream->priv.io, EVLI_OUT);
    if (stream->priv.ext != NULL)
        evli_due_stop(stream->loop, &stream->priv.ext->write_due);
    if (err == 0) {
        stream->flags |= EVLI_H_CONNECTED;
    } else {
        stream->flags &= ~(uint32_t)EVLI_H_READABLE;
        evli_writes_abort(stream, EVL_ECANCELED);
    }
    stream->loop->priv.active_reqs--;
    if (req->cb != NULL)
        EVLI_CALL(stream->loop, req->cb(req, err));
    if (err == 0 && !evl_is_closing(EVLI_HANDLE(stream)) && stream->priv.queue_tail != NULL)
        evli_stream_flush(stream, EVLI_FAIR);
}

/* Looks how a connect has ended, if it has. */
static void evli_stream_connecting(evl_stream_t *stream) {
    evli_io_t *io = &stream->priv.io;
    int err = io->error;
    io->error = 0;
    if (err == 0)
        err = evli_sys_connect_result(io->fd);
    if (err == EVL_EALREADY)
        io->ready &= (uint8_t)~EVLI_OUT;
    else
        evli_stream_connected(stream, err);
}

/* What else may be due for a stream: room to write, bounds, an end. */
static void evli_stream_run_rest(evl_stream_t *stream, int fed) {
    evl_loop_t *loop = stream->loop;
    evli_io_t *io = &stream->priv.io;
    if ((io->ready & io->want & EVLI_OUT) && stream->priv.connect_req == NULL && !evli_halted(loop))
        evli_stream_flush(stream, EVLI_FAIR);
    if (evl_is_closing(EVLI_HANDLE(stream)))
        return;
    evli_flow_check(stream);
    if (stream->priv.shutdown_req != NULL && stream->priv.queue_tail == NULL &&
        stream->priv.done == 0 && !evli_halted(loop) &&
        (stream->priv.connect_req == NULL || stream->priv.shutdown_req->error != 0))
        evli_stream_shut(stream, stream->priv.shutdown_req->error);
    evli_flow_tell(stream);
    if (evli_halted(loop) && (fed || stream->priv.shutdown_req != NULL) &&
        !evl_is_closing(EVLI_HANDLE(stream)))
        evli_io_feed(loop, io);
}

/* Runs a stream for whatever it is ready for, which is nearly always reading. After each callback it
 * may be closing, or the loop halted: what is left to do then is done the next time. */
static void evli_stream_run(evl_loop_t *loop, evli_io_t *io) {
    evl_stream_t *stream = EVLI_STREAM(io);
    int plain = (io->ready | EVLI_IN | EVLI_OUT) == (EVLI_IN | EVLI_OUT) && io->want == EVLI_IN &&
                stream->priv.ext == NULL;
    int fed = io->ready & EVLI_FED;
    io->ready &= (uint8_t)~EVLI_FED;
    if (!plain && stream->priv.connect_req != NULL && (io->error != 0 || (io->ready & EVLI_OUT)))
        evli_stream_connecting(stream);
    if (io->ready & io->want & EVLI_IN)
        evli_stream_read(stream);
    if (!plain)
        evli_stream_run_rest(stream, fed);
    if ((io->ready & io->want) && io->link.next == NULL) /* it is the others' turn */
        evli_list_push(&loop->priv.ready, &io->link);
}

/* What evl_write and evl_try_write ask first. Returns the number of bytes in *size. */
static int evli_write_check(const evl_stream_t *stream, const evl_buf_t bufs[], unsigned int nbufs,
                            const evl_stream_t *send_handle, size_t *size) {
    unsigned int i;
    *size = 0;
    if (bufs == NULL || nbufs < 1 || nbufs > 1024 * 1024 || send_handle != NULL)
        return EVL_EINVAL;
    for (i = 0; i < nbufs; i++) {
        if (bufs[i].len > EVLI_IO_MAX - *size)
            return EVL_EINVAL;
        *size += bufs[i].len;
    }
    if (stream->priv.io.fd == EVLI_NO_SOCK)
        return EVL_EBADF;
    return stream->flags & EVLI_H_WRITABLE ? 0 : EVL_EPIPE;
}

static inline void evli_write_init(evl_write_t *req, evl_stream_t *stream, unsigned int nbufs,
                                   evl_write_cb cb) {
    req->type = EVL_WRITE;
    req->error = 0;
    req->cb = cb;
    req->handle = stream;
    req->send_handle = NULL;
    req->priv.bufs = req->priv.few;
    req->priv.nbufs = nbufs;
    req->priv.index = 0;
    stream->loop->priv.active_reqs++;
}

/* Queues a write of `size` bytes that has passed all checks. */
static int evli_write_queue(evl_write_t *req, evl_stream_t *stream, const evl_buf_t bufs[],
                            unsigned int nbufs, size_t size, evl_write_cb cb) {
    int first = stream->priv.queue_tail == NULL;
    evl_buf_t *copy = req->priv.few;
    if (nbufs > EVLI_COUNT(req->priv.few))
        copy = (evl_buf_t *)evli_malloc(nbufs * sizeof(*copy));
    if (copy == NULL)
        return EVL_ENOMEM;
    memcpy(copy, bufs, nbufs * sizeof(*copy));
    evli_write_init(req, stream, nbufs, cb);
    req->priv.bufs = copy;
    evli_writes_push(&stream->priv.queue_tail, req);
    stream->write_queue_size += size;
    if (first && stream->priv.connect_req == NULL)
        evli_stream_flush(stream, EVLI_FAIR);
    evli_flow_check(stream);
    return 0;
}

EVLOOP_API int evl_write2(evl_write_t *req, evl_stream_t *stream, const evl_buf_t bufs[],
                          unsigned int nbufs, evl_stream_t *send_handle, evl_write_cb cb) {
    const evli_stream_ext_t *ext = stream->priv.ext;
    size_t size;
    int err = evli_write_check(stream, bufs, nbufs, send_handle, &size);
    if (err != 0)
        return err;
    if (ext != NULL && ext->max != 0 &&
        (size > ext->max || stream->write_queue_size > ext->max - size))
        return EVL_ENOBUFS;
    return evli_write_queue(req, stream, bufs, nbufs, size, cb);
}

/* What the kernel did not take whole, or not at all, is queued. */
static void evli_write_rest(evl_write_t *req, const evl_buf_t *buf, int64_t n) {
    evl_stream_t *stream = req->handle;
    req->priv.few[0] = *buf;
    req->priv.nbufs = 1;
    evli_writes_push(&stream->priv.queue_tail, req);
    stream->write_queue_size += buf->len;
    if (evli_stream_sent(stream, n))
        evli_stream_flush(stream, EVLI_FAIR - 1);
    else
        evli_stream_settle(stream, 0);
}

/* Nearly every write is one buffer, on a stream with nothing queued and no bounds, and the kernel takes
 * it whole. */
EVLOOP_API int evl_write(evl_write_t *req, evl_stream_t *stream, const evl_buf_t bufs[],
                         unsigned int nbufs, evl_write_cb cb) {
    const uint32_t plain = EVLI_H_WRITABLE, flags = plain | EVLI_H_BLOCKING;
    int64_t n;
    if (nbufs != 1 || bufs == NULL || bufs->len - 1 >= EVLI_IO_MAX || stream->priv.ext != NULL ||
        stream->priv.queue_tail != NULL || stream->priv.connect_req != NULL ||
        (stream->flags & flags) != plain)
        return evl_write2(req, stream, bufs, nbufs, NULL, cb);
    n = evli_io_send(stream->loop, &stream->priv.io, bufs, 1, 0);
    evli_write_init(req, stream, 0, cb);
    if (EVLI_LIKELY(n == (int64_t)bufs->len))
        evli_write_through(stream, req);
    else
        evli_write_rest(req, bufs, n);
    return 0;
}

EVLOOP_API int evl_try_write2(evl_stream_t *stream, const evl_buf_t bufs[], unsigned int nbufs,
                              evl_stream_t *send_handle) {
    size_t size, count = nbufs < EVLI_IOV_MAX ? nbufs : EVLI_IOV_MAX;
    int64_t n;
    int err, full;
    if (stream->priv.connect_req != NULL || stream->priv.queue_tail != NULL ||
        stream->write_queue_size != 0)
        return EVL_EAGAIN;
    err = evli_write_check(stream, bufs, nbufs, send_handle, &size);
    if (err != 0)
        return err;
    n = evli_sys_send(stream->priv.io.fd, bufs, count, (stream->flags & EVLI_H_BLOCKING) != 0,
                      &full);
    if (n == EVL_ENOBUFS)
        return EVL_EAGAIN;
    return (int)n;
}

EVLOOP_API int evl_try_write(evl_stream_t *stream, const evl_buf_t bufs[], unsigned int nbufs) {
    return evl_try_write2(stream, bufs, nbufs, NULL);
}

EVLOOP_API int evl_shutdown(evl_shutdown_t *req, evl_stream_t *stream, evl_shutdown_cb cb) {
    if (!(stream->flags & EVLI_H_WRITABLE) || (stream->flags & (EVLI_H_SHUT | EVLI_H_SHUTTING)) ||
        evl_is_closing(EVLI_HANDLE(stream)))
        return EVL_ENOTCONN;
    req->type = EVL_SHUTDOWN;
    req->error = 0;
    req->cb = cb;
    req->handle = stream;
    stream->priv.shutdown_req = req;
    stream->flags |= EVLI_H_SHUTTING;
    stream->flags &= ~(uint32_t)EVLI_H_WRITABLE;
    stream->loop->priv.active_reqs++;
    if (stream->priv.queue_tail == NULL && stream->priv.connect_req == NULL)
        evli_io_feed(stream->loop, &stream->priv.io);
    return 0;
}

EVLOOP_API int evl_is_readable(const evl_stream_t *stream) {
    return (stream->flags & EVLI_H_READABLE) != 0;
}

EVLOOP_API int evl_is_writable(const evl_stream_t *stream) {
    return (stream->flags & EVLI_H_WRITABLE) != 0;
}

EVLOOP_API size_t evl_stream_get_write_queue_size(const evl_stream_t *stream) {
    return stream->write_queue_size;
}

EVLOOP_API int evl_stream_set_blocking(evl_stream_t *stream, int blocking) {
    int err;
    if (stream->priv.io.fd == EVLI_NO_SOCK)
        return EVL_EBADF;
    if (stream->flags & EVLI_H_LISTENING)
        return EVL_EINVAL;
    err = evli_sys_set_blocking(stream->priv.io.fd, blocking);
    if (err != 0)
        return err;
    if (blocking)
        stream->flags |= EVLI_H_BLOCKING;
    else
        stream->flags &= ~(uint32_t)EVLI_H_BLOCKING;
    return 0;
}

/* A connect or a queue has not moved for too long. */
static void evli_write_timeout(evl_loop_t *loop, evli_due_t *due) {
    evl_stream_t *stream = EVLI_OF(due, evli_stream_ext_t, write_due)->stream;
    (void)loop;
    if (stream->priv.connect_req != NULL) {
        evli_sys_disconnect(stream->priv.io.fd); /* else the kernel goes on trying */
        evli_stream_connected(stream, EVL_ETIMEDOUT);
        return;
    }
    evli_writes_abort(stream, EVL_ETIMEDOUT);
}

/* ==== [SECTION] Stream listening ==== */

static void evli_gate_leave(evli_gate_t *gate) {
    if (gate->server == NULL && gate->open == 0)
        evli_free(gate);
}

/* Goes on accepting unless something speaks against it. */
static void evli_listen_resume(evl_stream_t *server) {
    evli_gate_t *gate = server->priv.gate;
    if (gate->accepted != EVLI_NO_SOCK || gate->retry.index != 0 ||
        (gate->limit != 0 && gate->open >= gate->limit))
        return;
    if (evli_io_want(server->loop, &server->priv.io, EVLI_IN) != 0) /* out of memory: later */
        evli_stream_due(server, &gate->retry, 100 * EVLI_NS_PER_MS);
}

/* A connection has ended: there may be room for the next. */
static void evli_gate_release(evli_gate_t *gate) {
    gate->open--;
    if (gate->server != NULL)
        evli_listen_resume(gate->server);
    evli_gate_leave(gate);
}

/* Delivery: a connection has come. */
static void evli_stream_accepted(evl_stream_t *server, evl_os_sock_t sock) {
    evli_gate_t *gate = server->priv.gate;
    gate->accepted = sock;
    gate->open++;
    gate->failures = 0;
    if (gate->connection_cb != NULL)
        EVLI_CALL(server->loop, gate->connection_cb(server, 0));
    if (evl_is_closing(EVLI_HANDLE(server)))
        return;
    if (gate->accepted != EVLI_NO_SOCK || (gate->limit != 0 && gate->open >= gate->limit))
        evli_io_rest(server->loop, &server->priv.io, EVLI_IN);
}

/* Descriptors or memory have run out. The clients stay in the backlog; the listener rests, lest it
 * spin, and looks again by a timer. The first failure may be over by then: the second is told. */
static void evli_accept_failed(evl_stream_t *server, int err) {
    evli_gate_t *gate = server->priv.gate;
    uint64_t pause_ms = gate->failures++ == 0 ? 20 : 100;
    evli_io_rest(server->loop, &server->priv.io, EVLI_IN);
    if (evli_stream_due(server, &gate->retry, pause_ms * EVLI_NS_PER_MS) != 0)
        server->priv.io.want = EVLI_IN; /* no memory for a timer: look again at once */
    if (gate->failures == 2 && gate->connection_cb != NULL)
        EVLI_CALL(server->loop, gate->connection_cb(server, err));
}

static void evli_accept_retry(evl_loop_t *loop, evli_due_t *due) {
    (void)loop;
    evli_listen_resume(EVLI_OF(due, evli_gate_t, retry)->server);
}

static int evli_accept_is_out(int err) {
    return err == EVL_EMFILE || err == EVL_ENFILE || err == EVL_ENOMEM || err == EVL_ENOBUFS;
}

/* What accept reports of a connection that has failed already, not of the listener: accept(2) says
 * to treat these like EAGAIN and go on; Windows has another one for it. */
static int evli_accept_is_gone(int err) {
    return err == EVL_ECONNABORTED || err == EVL_ECONNRESET || err == EVL_EPROTO ||
           err == EVL_ENETDOWN || err == EVL_ENOPROTOOPT || err == EVL_EHOSTDOWN ||
           err == EVL_ENONET || err == EVL_EHOSTUNREACH || err == EVL_ENETUNREACH ||
           err == EVL_EPERM;
}

static void evli_listener_run(evl_loop_t *loop, evli_io_t *io) {
    evl_stream_t *server = EVLI_STREAM(io);
    int turns = EVLI_FAIR;
    while (turns-- > 0 && (io->ready & io->want & EVLI_IN) && !evli_halted(loop)) {
        evl_os_sock_t sock;
        int err = evli_io_accept(loop, io, &sock);
        if (err == 0) {
            evli_stream_accepted(server, sock);
        } else if (err == EVL_EAGAIN) {
            io->ready &= (uint8_t)~EVLI_IN;
        } else if (evli_accept_is_out(err)) {
            evli_accept_failed(server, err);
        } else if (!evli_accept_is_gone(err)) {
            io->ready &= (uint8_t)~EVLI_IN;
            if (io->ready & EVLI_ERR) /* the socket is gone: it would only fail again */
                evli_io_rest(loop, io, EVLI_IN);
            if (server->priv.gate->connection_cb != NULL)
                EVLI_CALL(loop, server->priv.gate->connection_cb(server, err));
        }
    }
    if ((io->ready & io->want) && io->link.next == NULL)
        evli_list_push(&loop->priv.ready, &io->link);
}

/* Turns a bound stream into a listener: what listen(2) and the gate need. */
static int evli_stream_listen(evl_stream_t *stream, int backlog, evl_connection_cb cb) {
    evli_gate_t *gate = stream->priv.gate;
    int err = evli_sys_listen(stream->priv.io.fd, backlog);
    if (err != 0)
        return err;
    if (stream->flags & EVLI_H_LISTENING) { /* again: a new backlog and callback */
        gate->connection_cb = cb;
        return 0;
    }
    gate = (evli_gate_t *)evli_calloc(1, sizeof(*gate));
    if (gate == NULL)
        return EVL_ENOMEM;
    stream->priv.io.kind = EVLI_IO_LISTENER;
    err = evli_io_want(stream->loop, &stream->priv.io, EVLI_IN);
    if (err != 0) {
        stream->priv.io.kind = EVLI_IO_STREAM;
        evli_free(gate);
        return err;
    }
    gate->server = stream;
    gate->accepted = EVLI_NO_SOCK;
    evli_due_init(&gate->retry, EVLI_DUE_ACCEPT);
    stream->priv.gate = gate;
    gate->connection_cb = cb;
    stream->flags |= EVLI_H_LISTENING;
    stream->flags &= ~(uint32_t)(EVLI_H_READABLE | EVLI_H_WRITABLE);
    evli_handle_start(EVLI_HANDLE(stream));
    return 0;
}

static int evli_stream_open(evl_stream_t *stream, evl_os_sock_t fd, uint32_t flags);

EVLOOP_API int evl_accept(evl_stream_t *server, evl_stream_t *client) {
    evli_gate_t *gate = server->priv.gate;
    int err;
    if (!(server->flags & EVLI_H_LISTENING) || evl_is_closing(EVLI_HANDLE(server)) ||
        gate->accepted == EVLI_NO_SOCK)
        return EVL_EAGAIN;
    if (client->type != server->type || client->loop != server->loop ||
        evl_is_closing(EVLI_HANDLE(client)))
        return EVL_EINVAL;
    if (client->priv.io.fd != EVLI_NO_SOCK)
        return EVL_EBUSY;
    err = evli_stream_open(client, gate->accepted,
                           EVLI_H_READABLE | EVLI_H_WRITABLE | EVLI_H_CONNECTED);
    if (err != 0)
        evli_sys_close_socket(gate->accepted);
    gate->accepted = EVLI_NO_SOCK;
    if (err != 0) {
        evli_gate_release(gate);
        return err;
    }
    client->priv.gate = gate;
    evli_listen_resume(server);
    return 0;
}

EVLOOP_API int evl_listen_limit(evl_stream_t *server, unsigned max_connections) {
    evli_gate_t *gate = server->priv.gate;
    if (!(server->flags & EVLI_H_LISTENING) || evl_is_closing(EVLI_HANDLE(server)))
        return EVL_EINVAL;
    gate->limit = max_connections;
    if (gate->limit != 0 && gate->open >= gate->limit)
        evli_io_rest(server->loop, &server->priv.io, EVLI_IN);
    else
        evli_listen_resume(server);
    return 0;
}

/* ==== [SECTION] Stream lifetime ==== */

static void evli_stream_init(evl_loop_t *loop, evl_stream_t *stream, evl_handle_type type) {
    evli_handle_init(loop, EVLI_HANDLE(stream), type);
    stream->write_queue_size = 0;
    memset(&stream->priv, 0, sizeof(stream->priv));
    evli_io_init(&stream->priv.io, EVLI_IO_STREAM, EVLI_NO_SOCK);
}

/* Gives the stream its descriptor, with the options that were set before there was one. */
static int evli_stream_open(evl_stream_t *stream, evl_os_sock_t fd, uint32_t flags) {
    int on = 1, err = 0;
    if (stream->priv.io.fd != EVLI_NO_SOCK && stream->priv.io.fd != fd)
        return EVL_EBUSY;
    if (stream->flags & EVLI_H_NODELAY)
        err = evli_sys_setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (err == 0 && (stream->flags & EVLI_H_KEEPALIVE))
        err = evli_sys_keepalive(fd, 1, 60, 1, 10);
    if (err != 0)
        return err;
    stream->priv.io.fd = fd;
    stream->flags |= flags;
    return 0;
}

static void evli_pump_close(evl_stream_t *stream);
static int evli_pump_finish(evl_stream_t *stream);

static void evli_stream_close_gate(evl_stream_t *stream) {
    evli_gate_t *gate = stream->priv.gate;
    stream->priv.gate = NULL;
    if (gate == NULL)
        return;
    if (!(stream->flags & EVLI_H_LISTENING)) {
        evli_gate_release(gate);
        return;
    }
    evli_due_stop(stream->loop, &gate->retry);
    gate->server = NULL;
    if (gate->accepted != EVLI_NO_SOCK) {
        evli_sys_close_socket(gate->accepted);
        gate->open--;
    }
    evli_gate_leave(gate);
}

/* The descriptor goes at once, the requests in the closing phase. The standard streams' descriptors
 * are left open: nothing good comes of freeing their numbers. */
static void evli_stream_close(evl_handle_t *handle) {
    evl_stream_t *stream = (evl_stream_t *)handle;
    evli_io_t *io = &stream->priv.io;
    int keep = evli_sys_is_stdio(io->fd);
    evl_read_stop(stream);
    if (stream->priv.ext != NULL) {
        evli_due_stop(handle->loop, &stream->priv.ext->write_due);
        evli_pump_close(stream);
    }
    if (evli_io_forget(handle->loop, io, !keep && !(handle->flags & EVLI_H_FOREIGN)) == EVLI_HELD)
        handle->flags |= EVLI_H_HELD;
    if (io->fd != EVLI_NO_SOCK && !keep)
        evli_sys_close_socket(io->fd);
    io->fd = EVLI_NO_SOCK;
    evli_stream_close_gate(stream);
    handle->flags &= ~(uint32_t)(EVLI_H_READABLE | EVLI_H_WRITABLE);
}

/* Calls back what was under way. Each step leaves nothing of itself, so a halted loop can call this
 * again. */
static int evli_stream_finish(evl_handle_t *handle) {
    evl_stream_t *stream = (evl_stream_t *)handle;
    evl_connect_t *connect_req = stream->priv.connect_req;
    if (connect_req != NULL) {
        stream->priv.connect_req = NULL;
        handle->loop->priv.active_reqs--;
        if (connect_req->cb != NULL)
            EVLI_CALL(handle->loop, connect_req->cb(connect_req, EVL_ECANCELED));
    }
    evli_writes_fail(stream, EVL_ECANCELED);
    evli_stream_report(stream);
    if (stream->priv.shutdown_req != NULL && !evli_halted(handle->loop))
        evli_stream_shut(stream, EVL_ECANCELED);
    if (evli_halted(handle->loop) || !evli_pump_finish(stream))
        return 0;
    evli_list_remove(&stream->priv.io.link); /* fed by the failed writes */
    evli_free(stream->priv.ext);
    stream->priv.ext = NULL;
    return 1;
}

EVLOOP_API int evl_listen(evl_stream_t *stream, int backlog, evl_connection_cb cb) {
    const evli_handle_type_t *type;
    if (stream == NULL || evl_is_closing(EVLI_HANDLE(stream)) || stream->priv.connect_req != NULL)
        return EVL_EINVAL;
    type = evli_handle_type_of(stream->type);
    return type->listen != NULL ? type->listen(stream, backlog, cb) : (int)EVL_EINVAL;
}

/* ==== [SECTION] Stream bounds ==== */

static evli_stream_ext_t *evli_stream_ext(evl_stream_t *stream) {
    evli_stream_ext_t *ext = stream->priv.ext;
    if (ext != NULL)
        return ext;
    ext = (evli_stream_ext_t *)evli_calloc(1, sizeof(*ext));
    if (ext == NULL)
        return NULL;
    ext->stream = stream;
    evli_due_init(&ext->read_due, EVLI_DUE_READ);
    evli_due_init(&ext->write_due, EVLI_DUE_WRITE);
    stream->priv.ext = ext;
    return ext;
}

EVLOOP_API int evl_stream_set_watermarks(evl_stream_t *stream, size_t low, size_t high, size_t max,
                                         evl_flow_cb cb) {
    evli_stream_ext_t *ext;
    if (low > high || (max != 0 && high > max) || evl_is_closing(EVLI_HANDLE(stream)))
        return EVL_EINVAL;
    ext = evli_stream_ext(stream);
    if (ext == NULL)
        return EVL_ENOMEM;
    ext->low = low;
    ext->high = high;
    ext->max = max;
    ext->flow_cb = cb;
    if (high == 0 && ext->above) { /* no marks any more: whoever was paused goes on */
        ext->above = 0;
        ext->crossings++;
        evli_io_feed(stream->loop, &stream->priv.io);
    }
    evli_flow_check(stream);
    return 0;
}

EVLOOP_API int evl_stream_set_timeouts(evl_stream_t *stream, uint64_t connect_ms, uint64_t read_ms,
                                       uint64_t write_ms) {
    evli_stream_ext_t *ext;
    int err = 0;
    if (evl_is_closing(EVLI_HANDLE(stream)))
        return EVL_EINVAL;
    ext = evli_stream_ext(stream);
    if (ext == NULL)
        return EVL_ENOMEM;
    ext->connect_ns = evli_ms_to_ns(connect_ms);
    ext->read_ns = evli_ms_to_ns(read_ms);
    ext->write_ns = evli_ms_to_ns(write_ms);
    if (stream->priv.read_cb != NULL)
        err = evli_stream_due(stream, &ext->read_due, ext->read_ns);
    if (err == 0 && stream->priv.connect_req != NULL)
        err = evli_stream_due(stream, &ext->write_due, ext->connect_ns);
    else if (err == 0 && stream->priv.queue_tail != NULL)
        err = evli_stream_due(stream, &ext->write_due, ext->write_ns);
    return err;
}

/* ==== [SECTION] Pump ==== */

/* Bytes are tried on `to` straight from the loop's lent buffer. What it does not take at once is
 * kept in `rest`, and `from` rests until that is written. */
static void evli_pump_end(evl_pump_t *req, int status) {
    if (req->from != NULL && req->from->priv.ext != NULL) {
        evl_read_stop(req->from);
        req->from->priv.ext->pump_out = NULL;
    }
    if (req->to->priv.ext != NULL)
        req->to->priv.ext->pump_in = NULL;
    evli_free(req->priv.rest);
    req->priv.rest = NULL;
    req->to->loop->priv.active_reqs--;
    req->cb(req, status);
}

static void evli_pump_read(evl_stream_t *from, ssize_t nread, const evl_buf_t *buf);

static void evli_pump_written(evl_write_t *write, int status) {
    evl_pump_t *req = EVLI_OF(write, evl_pump_t, priv.write);
    int err = status;
    req->priv.write.handle = NULL; /* none is under way */
    if (err == 0)
        req->transferred += req->priv.length;
    if (err == 0 && (req->from == NULL || evl_is_closing(EVLI_HANDLE(req->from))))
        err = EVL_ECANCELED;
    if (err == 0)
        err = evl_read_start(req->from, NULL, evli_pump_read);
    if (err != 0)
        evli_pump_end(req, err);
}

static void evli_pump_read(evl_stream_t *from, ssize_t nread, const evl_buf_t *buf) {
    evl_pump_t *req = from->priv.ext->pump_out;
    evl_buf_t rest = *buf;
    int n, err;
    if (nread <= 0) {
        if (nread != 0)
            evli_pump_end(req, nread == EVL_EOF ? 0 : (int)nread);
        return;
    }
    rest.len = (evli_len_t)nread;
    n = evl_try_write(req->to, &rest, 1);
    if (n < 0 && n != EVL_EAGAIN) {
        evli_pump_end(req, n);
        return;
    }
    n = n < 0 ? 0 : n;
    req->transferred += (uint64_t)n;
    if (n == nread)
        return;
    if (req->priv.rest == NULL)
        req->priv.rest = (char *)evli_malloc(EVLI_LENT_SIZE);
    err = req->priv.rest == NULL ? (int)EVL_ENOMEM : 0;
    if (err == 0) {
        rest.len -= (evli_len_t)n;
        memcpy(req->priv.rest, rest.base + n, rest.len);
        rest.base = req->priv.rest;
        evl_read_stop(from);
        err = evli_write_check(req->to, &rest, 1, NULL, &req->priv.length);
        if (err == 0) /* past any cap: there is but this one */
            err = evli_write_queue(&req->priv.write, req->to, &rest, 1, req->priv.length,
                                   evli_pump_written);
    }
    if (err != 0)
        evli_pump_end(req, err);
}

EVLOOP_API int evl_pump(evl_pump_t *req, evl_stream_t *from, evl_stream_t *to, evl_pump_cb cb) {
    int err;
    if (cb == NULL || from == to || from->loop != to->loop || evl_is_closing(EVLI_HANDLE(from)) ||
        evl_is_closing(EVLI_HANDLE(to)))
        return EVL_EINVAL;
    if (!(to->flags & EVLI_H_WRITABLE))
        return EVL_EPIPE;
    if (evli_stream_ext(from) == NULL || evli_stream_ext(to) == NULL)
        return EVL_ENOMEM;
    if (from->priv.ext->pump_out != NULL)
        return EVL_EALREADY;
    if (to->priv.ext->pump_in != NULL)
        return EVL_EBUSY;
    err = evl_read_start(from, NULL, evli_pump_read);
    if (err != 0)
        return err;
    req->type = EVL_PUMP;
    req->error = 0;
    req->cb = cb;
    req->from = from;
    req->to = to;
    req->transferred = 0;
    req->priv.rest = NULL;
    req->priv.length = 0;
    req->priv.write.handle = NULL;
    from->priv.ext->pump_out = req;
    to->priv.ext->pump_in = req;
    from->loop->priv.active_reqs++;
    return 0;
}

/* A stream with a pump is closed: no further byte is read. */
static void evli_pump_close(evl_stream_t *stream) {
    evl_pump_t *in = stream->priv.ext->pump_in;
    if (in != NULL && in->from != NULL)
        evl_read_stop(in->from);
}

/* In the closing phase: ends the pumps of a closed stream, but for one whose last bytes are still
 * being written to the other, which ends when they are. */
static int evli_pump_finish(evl_stream_t *stream) {
    evl_pump_t *out, *in;
    if (stream->priv.ext == NULL)
        return 1;
    out = stream->priv.ext->pump_out;
    if (out != NULL && out->priv.write.handle != NULL) {
        out->from = NULL;
        stream->priv.ext->pump_out = out = NULL;
    }
    if (out != NULL)
        EVLI_CALL(stream->loop, evli_pump_end(out, EVL_ECANCELED));
    in = stream->priv.ext->pump_in;
    if (in != NULL && !evli_halted(stream->loop))
        EVLI_CALL(stream->loop, evli_pump_end(in, EVL_ECANCELED));
    return !evli_halted(stream->loop);
}

/* ==== [SECTION] TCP functions ==== */

#define EVLI_TCP_STREAM(tcp) ((evl_stream_t *)(tcp))

/* Makes the socket if there is none. */
static int evli_tcp_socket(evl_tcp_t *tcp, int domain, uint32_t flags) {
    evl_os_sock_t fd;
    int err;
    if (tcp->priv.io.fd != EVLI_NO_SOCK) {
        tcp->flags |= flags;
        return 0;
    }
    err = evli_sys_socket(domain, SOCK_STREAM, 0, &fd);
    if (err != 0)
        return err;
    err = evli_stream_open(EVLI_TCP_STREAM(tcp), fd, flags);
    if (err != 0)
        evli_sys_close_socket(fd);
    return err;
}

EVLOOP_API int evl_tcp_init_ex(evl_loop_t *loop, evl_tcp_t *tcp, unsigned int flags) {
    int err, domain = (int)(flags & 0xff);
    if ((flags & ~0xffu) || (domain != AF_INET && domain != AF_INET6 && domain != AF_UNSPEC))
        return EVL_EINVAL;
    evli_stream_init(loop, EVLI_TCP_STREAM(tcp), EVL_TCP);
    if (domain == AF_UNSPEC)
        return 0;
    err = evli_tcp_socket(tcp, domain, 0);
    if (err != 0)
        evli_list_remove(&tcp->link);
    return err;
}

EVLOOP_API int evl_tcp_init(evl_loop_t *loop, evl_tcp_t *tcp) {
    return evl_tcp_init_ex(loop, tcp, AF_UNSPEC);
}

EVLOOP_API int evl_tcp_open(evl_tcp_t *tcp, evl_os_sock_t sock) {
    int type, err;
    if (evl_is_closing(EVLI_HANDLE(tcp)))
        return EVL_EINVAL;
    if (tcp->priv.io.fd != EVLI_NO_SOCK)
        return EVL_EBUSY;
    if (tcp->loop->priv.backend->knows(tcp->loop, sock))
        return EVL_EEXIST;
    err = evli_sys_getsockopt(sock, SOL_SOCKET, SO_TYPE, &type);
    if (err == 0)
        err = evli_sys_nonblock(sock, 1);
    if (err == 0)
        err = evli_stream_open(EVLI_TCP_STREAM(tcp), sock,
                               EVLI_H_READABLE | EVLI_H_WRITABLE | EVLI_H_FOREIGN);
    if (err == 0)
        evli_sys_no_sigpipe(sock);
    return err;
}

EVLOOP_API int evl_tcp_nodelay(evl_tcp_t *tcp, int enable) {
    int on = enable != 0, err;
    if (tcp->priv.io.fd != EVLI_NO_SOCK) {
        err = evli_sys_setsockopt(tcp->priv.io.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        if (err != 0)
            return err;
    }
    if (enable)
        tcp->flags |= EVLI_H_NODELAY;
    else
        tcp->flags &= ~(uint32_t)EVLI_H_NODELAY;
    return 0;
}

EVLOOP_API int evl_tcp_keepalive_ex(evl_tcp_t *tcp, int enable, unsigned int idle,
                                    unsigned int intvl, unsigned int cnt) {
    int err;
    if (enable && (idle < 1 || intvl < 1 || cnt < 1))
        return EVL_EINVAL;
    if (tcp->priv.io.fd != EVLI_NO_SOCK) {
        err = evli_sys_keepalive(tcp->priv.io.fd, enable != 0, idle, intvl, cnt);
        if (err != 0)
            return err;
    }
    if (enable)
        tcp->flags |= EVLI_H_KEEPALIVE;
    else
        tcp->flags &= ~(uint32_t)EVLI_H_KEEPALIVE;
    return 0;
}

EVLOOP_API int evl_tcp_keepalive(evl_tcp_t *tcp, int enable, unsigned int idle) {
    return evl_tcp_keepalive_ex(tcp, enable, idle, 1, 10);
}

EVLOOP_API int evl_tcp_simultaneous_accepts(evl_tcp_t *tcp, int enable) {
    (void)tcp;
    (void)enable;
    return 0;
}

EVLOOP_API int evl_tcp_bind(evl_tcp_t *tcp, const struct sockaddr *addr, unsigned int flags) {
    socklen_t len = evli_sockaddr_len(addr);
    int err, only6 = (flags & EVL_TCP_IPV6ONLY) != 0;
    if (len == 0 || (flags & ~(unsigned)(EVL_TCP_IPV6ONLY | EVL_TCP_REUSEPORT)) ||
        evl_is_closing(EVLI_HANDLE(tcp)) || (only6 && addr->sa_family != AF_INET6))
        return EVL_EINVAL;
    err = evli_tcp_socket(tcp, addr->sa_family, 0);
    if (err == 0)
        err = evli_sys_reuseaddr(tcp->priv.io.fd);
    if (err == 0 && (flags & EVL_TCP_REUSEPORT))
        err = evli_sys_reuseport(tcp->priv.io.fd);
    if (err == 0 && addr->sa_family == AF_INET6)
        err = evli_sys_only6(tcp->priv.io.fd, only6);
    if (err != 0)
        return err;
    err = evli_sys_bind(tcp->priv.io.fd, addr, len);
    if (err == EVL_EAFNOSUPPORT) /* how the BSDs report an address of the other family */
        return EVL_EINVAL;
    if (err != 0 && err != EVL_EADDRINUSE)
        return err;
    tcp->priv.io.error = err;
    return 0;
}

/* Starts connecting. Returns 0 also when a refusal is told at once: that waits in io.error. */
static int evli_tcp_start_connect(evl_tcp_t *tcp, const struct sockaddr *addr, socklen_t len) {
    struct sockaddr_in6 scoped;
    int err;
    memset(&scoped, 0, sizeof(scoped));
    memcpy(&scoped, addr, (size_t)len);
    if (scoped.sin6_family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL(&scoped.sin6_addr) &&
        scoped.sin6_scope_id == 0) { /* it needs the number of its link: any must do */
        scoped.sin6_scope_id = evli_sys_link_local_scope();
        addr = (const struct sockaddr *)&scoped;
    }
    err = evli_sys_connect(tcp->priv.io.fd, addr, len);
    if (err != EVL_ECONNREFUSED)
        return err;
    tcp->priv.io.error = err;
    return 0;
}

EVLOOP_API int evl_tcp_connect(evl_connect_t *req, evl_tcp_t *tcp, const struct sockaddr *addr,
                               evl_connect_cb cb) {
    socklen_t len = evli_sockaddr_len(addr);
    evli_io_t *io = &tcp->priv.io;
    evli_stream_ext_t *ext = tcp->priv.ext;
    int err = 0;
    if (len == 0 || evl_is_closing(EVLI_HANDLE(tcp)) || (tcp->flags & EVLI_H_LISTENING))
        return EVL_EINVAL;
    if (tcp->priv.connect_req != NULL)
        return EVL_EALREADY;
    if (tcp->flags & EVLI_H_CONNECTED)
        return EVL_EISCONN;
    if (io->error == 0) /* else a bind's failure is what the connect will report */
        err = evli_tcp_socket(tcp, addr->sa_family, 0);
    if (err == 0 && ext != NULL)
        err = evli_stream_due(EVLI_TCP_STREAM(tcp), &ext->write_due, ext->connect_ns);
    if (err == 0 && io->error == 0)
        err = evli_tcp_start_connect(tcp, addr, len);
    if (err == 0) {
        io->ready &= EVLI_FED; /* what the socket was ready for before says nothing */
        if (io->error != 0)
            evli_io_feed(tcp->loop, io);
        else
            err = evli_io_want(tcp->loop, io, io->want | EVLI_OUT);
        if (err != 0)
            evli_sys_disconnect(io->fd);
    }
    if (err != 0) {
        if (ext != NULL)
            evli_due_stop(tcp->loop, &ext->write_due);
        return err;
    }
    req->type = EVL_CONNECT;
    req->error = 0;
    req->cb = cb;
    req->handle = EVLI_TCP_STREAM(tcp);
    tcp->priv.connect_req = req;
    tcp->flags |= EVLI_H_READABLE | EVLI_H_WRITABLE;
    tcp->loop->priv.active_reqs++;
    return 0;
}

static int evli_tcp_name(const evl_tcp_t *tcp, int peer, struct sockaddr *name, int *namelen) {
    if (name == NULL || namelen == NULL || *namelen < 0)
        return EVL_EINVAL;
    if (tcp->priv.io.error != 0)
        return tcp->priv.io.error;
    if (tcp->priv.io.fd == EVLI_NO_SOCK)
        return EVL_EBADF;
    return evli_sys_name(tcp->priv.io.fd, peer, name, namelen);
}

EVLOOP_API int evl_tcp_getsockname(const evl_tcp_t *tcp, struct sockaddr *name, int *namelen) {
    return evli_tcp_name(tcp, 0, name, namelen);
}

EVLOOP_API int evl_tcp_getpeername(const evl_tcp_t *tcp, struct sockaddr *name, int *namelen) {
    return evli_tcp_name(tcp, 1, name, namelen);
}

EVLOOP_API int evl_tcp_close_reset(evl_tcp_t *tcp, evl_close_cb close_cb) {
    struct linger linger;
    int err;
    if (tcp->flags & EVLI_H_SHUTTING)
        return EVL_EINVAL;
    if (tcp->priv.io.fd == EVLI_NO_SOCK)
        return EVL_EBADF;
    linger.l_onoff = 1;
    linger.l_linger = 0;
    err = evli_sys_setsockopt(tcp->priv.io.fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
    if (err != 0 && err != EVL_EINVAL) /* macOS: the peer has shut it down already */
        return err;
    evl_close(EVLI_HANDLE(tcp), close_cb);
    return 0;
}

static int evli_tcp_listen(evl_stream_t *stream, int backlog, evl_connection_cb cb) {
    int err = stream->priv.io.error;
    if (err == 0)
        err = evli_tcp_socket((evl_tcp_t *)(void *)stream, AF_INET, 0);
    if (err == 0)
        err = evli_stream_listen(stream, backlog, cb);
    return err;
}

#else

static int evli_run_written(evl_loop_t *loop) {
    (void)loop;
    return 1;
}

#endif /* EVLI_HAVE_STREAMS */

/* ==== [SECTION] Poll functions ==== */

#define EVLI_POLL_EVENTS (EVL_READABLE | EVL_WRITABLE | EVL_DISCONNECT | EVL_PRIORITIZED)

EVLOOP_API int evl_poll_init_socket(evl_loop_t *loop, evl_poll_t *poll, evl_os_sock_t socket) {
    int err;
    if (loop->priv.backend->knows(loop, socket))
        return EVL_EEXIST;
    err = evli_sys_can_wait(socket);
    if (err == 0)
        err = evli_sys_nonblock_any(socket);
    if (err != 0)
        return err;
    evli_handle_init(loop, EVLI_HANDLE(poll), EVL_POLL);
    evli_io_init(&poll->priv.io, EVLI_IO_POLL, socket);
    poll->priv.cb = NULL;
    return 0;
}

EVLOOP_API int evl_poll_init(evl_loop_t *loop, evl_poll_t *poll, int fd) {
    return evl_poll_init_socket(loop, poll, (evl_os_sock_t)evl_get_osfhandle(fd));
}

EVLOOP_API int evl_poll_stop(evl_poll_t *poll) {
    evli_io_forget(poll->loop, &poll->priv.io, 0);
    evli_handle_stop(EVLI_HANDLE(poll));
    return 0;
}

EVLOOP_API int evl_poll_start(evl_poll_t *poll, int events, evl_poll_cb cb) {
    int err;
    if ((events & ~EVLI_POLL_EVENTS) || evl_is_closing(EVLI_HANDLE(poll)) ||
        (events != 0 && cb == NULL))
        return EVL_EINVAL;
    if (events == 0)
        return evl_poll_stop(poll);
    evli_list_remove(&poll->priv.io.link); /* what was seen for the old events is seen again */
    poll->priv.io.ready = 0;
    err = evli_io_want(poll->loop, &poll->priv.io, (unsigned)events);
    if (err != 0)
        return err;
    poll->priv.cb = cb;
    evli_handle_start(EVLI_HANDLE(poll));
    return 0;
}

static void evli_poll_run(evl_loop_t *loop, evli_io_t *io) {
    evl_poll_t *poll = EVLI_OF(io, evl_poll_t, priv.io);
    int events = io->ready & io->want & EVLI_POLL_EVENTS;
    int failed = io->ready & EVLI_ERR;
    io->ready = 0;
    if (failed) {
        evl_poll_stop(poll);
        EVLI_CALL(loop, poll->priv.cb(poll, EVL_EBADF, 0));
    } else if (events != 0) {
        EVLI_CALL(loop, poll->priv.cb(poll, 0, events));
    }
}

static evli_io_t *evli_poll_io(evl_handle_t *handle) {
    return &((evl_poll_t *)handle)->priv.io;
}

static void evli_poll_close(evl_handle_t *handle) {
    evl_poll_stop((evl_poll_t *)handle);
}

/* ==== [SECTION] Worker threads ==== */

#if !defined(EVLOOP_NO_THREADS)

/* Jobs come in by a lock-free stack. A worker that has nothing to do takes the pool's mutex, brings
 * what came in into the queue, and claims some of it, more than one if the queue is long: the mutex
 * is then taken once for all of them. What is claimed lies in the worker's slots, and is whose who
 * swaps the slot for NULL: the worker itself, in order; another that has run out of work; or
 * evl_cancel. So a job behind a long one waits no longer than it takes another thread to come by.
 *
 * Submitting wakes a thread only if one sleeps and none is on its way; a thread that finds more than
 * it claims wakes the next. A sleeper shows itself in `sleeping` before its last look at `incoming`,
 * and a submitter looks there after its push, so that one of them sees the other.
 *
 * To wake a thread takes longer than many a job. When all jobs have been short for a while, the pool is
 * lazy: the thread that is awake wakes another only for work worth that, claims all it can, wakes the
 * loop when it is through with all, and lingers for a moment before it sleeps, if more has come that soon
 * of late. Should a job take long after all, there is one idle thread that does not sleep but naps, and
 * looks after what the others have left undone. */

#define EVLI_POOL_THREADS     4
#define EVLI_POOL_MAX_THREADS 1024
#define EVLI_POOL_CLAIM       64    /* jobs for one worker at a time */
#define EVLI_POOL_QUICK_NS    20000 /* … if they take no longer than this */
#define EVLI_POOL_LATE_US     50    /* after so long in one job, others take over those behind it */
#define EVLI_POOL_SHORT_NS    5000  /* for jobs that take no longer the pool is lazy */
#define EVLI_POOL_NAP_NS      50000
#define EVLI_POOL_GAP_NS      30000 /* so long without work: not worth to fall asleep for */
#define EVLI_POOL_LINGER_NS   50000
#define EVLI_POOL_WORTH_NS    25000 /* work for which to wake a thread */

typedef struct evli_worker_s {
    evl_pool_t *pool;
    evl_thread_t thread;
    uint32_t claimed;                    /* slots of this round */
    uint32_t samples;                    /* of the last round, not yet in the histograms */
    uint32_t begun_us;                   /* atomic: when it began its job */
    int woken;                           /* it has been, and has not found work yet */
    int lingered;                        /* it has, and has not found work since */
    int slow;                            /* this round is one of a slow job */
    int quick;                           /* the jobs of the last round were short ones */
    uint64_t ended_ns;                   /* when the last job of the round did */
    uint64_t seen;                       /* jobs that were completed when it began to nap */
    evli_node_t *owes;                   /* atomic, an evl_loop_t: a wake-up that was put off */
    uint64_t owes_ns;                    /* … when */
    evli_node_t *slots[EVLI_POOL_CLAIM]; /* atomic */
    uint64_t wait_ns[EVLI_POOL_CLAIM];
    uint64_t run_ns[EVLI_POOL_CLAIM];
} evli_worker_t;

/* Takes note of how long there was nothing to do before this job came. */
static void evli_pool_gap(evl_pool_t *pool, const evli_job_t *job) {
    uint64_t gap_ns = 0;
    if (job->queued_ns > pool->priv.ended_ns)
        gap_ns = job->queued_ns - pool->priv.ended_ns;
    if (gap_ns > EVLI_NS_PER_MS)
        gap_ns = EVLI_NS_PER_MS;
    pool->priv.gap_ns = (3 * pool->priv.gap_ns + gap_ns) / 4;
}

/* Brings what came in into the queues. The pool's mutex is held, here and up to evli_worker_run. */
static void evli_pool_collect(evl_pool_t *pool) {
    evli_node_t *node, *next;
    if (evli_load_node(&pool->priv.incoming) == NULL)
        return;
    node = evli_stack_take(&pool->priv.incoming);
    if (pool->priv.running == 0)
        evli_pool_gap(pool, EVLI_OF(node, evli_job_t, in.node));
    for (; node != NULL; node = next) {
        evli_job_t *job = EVLI_OF(node, evli_job_t, in.node);
        next = node->next;
        job->in.link.next = NULL;
        evli_list_push(job->kind->slow ? &pool->priv.slow : &pool->priv.queue, &job->in.link);
        pool->priv.queued++;
    }
}

static void evli_worker_claim(evli_worker_t *worker, evli_job_t *job) {
    evli_node_t **slot = &worker->slots[worker->claimed++];
    job->slot = slot;
    evli_exchange_node(slot, &job->in.node);
}

/* Claims the first job of a queue. */
static void evli_worker_claim_first(evli_worker_t *worker, evli_link_t *queue) {
    worker->pool->priv.queued--;
    evli_worker_claim(worker, EVLI_OF(evli_list_pop(queue), evli_job_t, in.link));
}

/* Claims the oldest slow job, if it may run and is older than the oldest other one. */
static int evli_worker_claim_slow(evli_worker_t *worker) {
    evl_pool_t *pool = worker->pool;
    const evli_job_t *slow, *other;
    if (evli_list_empty(&pool->priv.slow) ||
        pool->priv.slow_running >= (pool->priv.threads + 1) / 2)
        return 0;
    slow = EVLI_OF(pool->priv.slow.next, evli_job_t, in.link);
    other = EVLI_OF(pool->priv.queue.next, evli_job_t, in.link);
    if (!evli_list_empty(&pool->priv.queue) && other->queued_ns < slow->queued_ns)
        return 0;
    pool->priv.slow_running++;
    worker->slow = 1;
    evli_worker_claim_first(worker, &pool->priv.slow);
    return 1;
}

/* Claims from the queue: the worker's share, or one job, if the last ones were not so short that the
 * mutex would cost more than they do. */
static void evli_worker_claim_some(evli_worker_t *worker) {
    evl_pool_t *pool = worker->pool;
    uint32_t share = pool->priv.queued / (2 * pool->priv.threads);
    if (share > EVLI_POOL_CLAIM || evli_load(&pool->priv.lazy))
        share = EVLI_POOL_CLAIM;
    if (!worker->quick)
        share = 1;
    do {
        if (evli_list_empty(&pool->priv.queue))
            break;
        evli_worker_claim_first(worker, &pool->priv.queue);
    } while (worker->claimed < share);
}

/* Takes over a job that another worker has claimed and not come to. */
static int evli_worker_take_over(evli_worker_t *worker, evli_worker_t *from) {
    uint32_t n;
    for (n = 0; n < EVLI_POOL_CLAIM; n++) {
        evli_node_t *node;
        if (evli_load_node(&from->slots[n]) == NULL)
            continue;
        node = evli_exchange_node(&from->slots[n], NULL);
        if (node != NULL) {
            evli_worker_claim(worker, EVLI_OF(node, evli_job_t, in.node));
            return 1;
        }
    }
    return 0;
}

static uint32_t evli_pool_us(uint64_t ns) {
    return (uint32_t)(ns / 1000);
}

/* Takes over a job from behind one that is taking long: it is older than all in the queue. */
static int evli_worker_relieve(evli_worker_t *worker) {
    evl_pool_t *pool = worker->pool;
    uint32_t i, now_us, started = evli_load(&pool->priv.started);
    if (pool->priv.batches == 0)
        return 0;
    now_us = evli_pool_us(evli_sys_clock());
    for (i = 0; i < started; i++) {
        evli_worker_t *other = &pool->priv.workers[i];
        if (other->claimed > 1 && now_us - evli_load(&other->begun_us) > EVLI_POOL_LATE_US &&
            evli_worker_take_over(worker, other))
            return 1;
    }
    return 0;
}

/* Takes over a job from anyone. */
static void evli_worker_steal(evli_worker_t *worker) {
    evl_pool_t *pool = worker->pool;
    uint32_t i, started = evli_load(&pool->priv.started);
    for (i = 0; i < started; i++)
        if (evli_worker_take_over(worker, &pool->priv.workers[i]))
            return;
}

/* A job that counted against max_queue waits no more. */
static inline void evli_pool_unbound(evl_pool_t *pool) {
    if (pool->priv.max_queue > 0)
        evli_fetch_add(&pool->priv.bounded, (uint32_t)-1);
}

/* Makes the wake-up that the worker has put off. Any thread may. */
static void evli_worker_pay(evli_worker_t *worker) {
    evli_node_t *loop = NULL;
    if (evli_load_node(&worker->owes) != NULL)
        loop = evli_exchange_node(&worker->owes, NULL);
    if (loop != NULL)
        evli_inbox_wake((evl_loop_t *)(void *)loop);
}

/* Puts off a wake-up while there is a napper, who makes it if this worker does not come to it. */
static void evli_worker_owe(evli_worker_t *worker, evl_loop_t *loop, uint64_t now_ns) {
    evli_worker_pay(worker);
    worker->owes_ns = now_ns;
    evli_exchange_node(&worker->owes, (evli_node_t *)(void *)loop);
    if (!evli_load(&worker->pool->priv.napping))
        evli_worker_pay(worker);
}

/* Hands a job back to its loop. From here on the pool is of no concern to it. */
static void evli_job_finished(evli_job_t *job) {
    evli_store(&job->back, 1);
    evli_send(job->loop, &job->in.node, EVLI_NODE_JOB);
}

/* Does what was claimed, without the mutex. The end of one job is the beginning of the next. */
static void evli_worker_run(evli_worker_t *worker) {
    uint64_t begin = evli_sys_clock(), end;
    uint32_t i, lazy = evli_load(&worker->pool->priv.lazy);
    if (!lazy)
        evli_worker_pay(worker);
    for (i = 0; i < worker->claimed; i++) {
        evli_node_t *node = evli_exchange_node(&worker->slots[i], NULL);
        evli_job_t *job;
        evl_loop_t *loop;
        if (node == NULL)
            continue;
        job = EVLI_OF(node, evli_job_t, in.node);
        loop = job->loop;
        evli_store(&worker->begun_us, evli_pool_us(begin));
        evli_pool_unbound(worker->pool);
        worker->wait_ns[worker->samples] = begin > job->queued_ns ? begin - job->queued_ns : 0;
        job->kind->run(job);
        end = evli_sys_clock();
        worker->run_ns[worker->samples++] = end - begin;
        begin = end;
        evli_store(&job->back, 1);
        if (!lazy)
            evli_send(loop, node, EVLI_NODE_JOB);
        else if (evli_inbox_push(loop, node, EVLI_NODE_JOB))
            evli_worker_owe(worker, loop, end);
        else if (end - worker->owes_ns > EVLI_POOL_QUICK_NS)
            evli_worker_pay(worker);
    }
    worker->ended_ns = begin;
}

/* Accounts for the round that is over. */
static void evli_worker_report(evli_worker_t *worker) {
    evl_pool_t *pool = worker->pool;
    uint64_t run_ns = 0;
    uint32_t i;
    for (i = 0; i < worker->samples; i++) {
        evl_histogram_record(pool->priv.wait_ns, worker->wait_ns[i]);
        evl_histogram_record(pool->priv.run_ns, worker->run_ns[i]);
        run_ns += worker->run_ns[i];
        pool->priv.mean_64 += worker->run_ns[i] - pool->priv.mean_64 / 64;
    }
    if (worker->samples > 0)
        worker->quick = run_ns <= (uint64_t)EVLI_POOL_QUICK_NS * worker->samples;
    pool->priv.completed += worker->samples;
    pool->priv.ended_ns = worker->ended_ns;
    pool->priv.running--;
    pool->priv.batches -= worker->claimed > 1 ? 1u : 0u;
    pool->priv.slow_running -= worker->slow ? 1u : 0u;
    worker->claimed = worker->samples = 0;
    worker->slow = 0;
}

/* Whether the next job is likely to be a short one. */
static int evli_pool_is_quick(const evl_pool_t *pool) {
    return pool->priv.mean_64 / 64 <= EVLI_POOL_SHORT_NS;
}

/* Whether there is a worker that gets on with its jobs. */
static int evli_pool_moves(const evl_pool_t *pool) {
    uint32_t i, now_us;
    if (pool->priv.running == 0)
        return 0;
    now_us = evli_pool_us(evli_sys_clock());
    for (i = 0; i < evli_load(&pool->priv.started); i++) {
        const evli_worker_t *worker = &pool->priv.workers[i];
        if (worker->claimed > 0 && now_us - evli_load(&worker->begun_us) <= EVLI_POOL_LATE_US)
            return 1;
    }
    return 0;
}

/* Whether to linger, once before each sleep: for one worker at a time, if that is likely to be worth it. */
static int evli_worker_lingers(const evli_worker_t *worker) {
    const evl_pool_t *pool = worker->pool;
    return !worker->lingered && !pool->priv.lingering && evli_pool_is_quick(pool) &&
           pool->priv.gap_ns <= EVLI_POOL_GAP_NS && evli_load(&pool->priv.napping) &&
           !evli_pool_moves(pool);
}

/* Looks out for work for a moment. */
static void evli_worker_linger(evli_worker_t *worker) {
    evl_pool_t *pool = worker->pool;
    uint64_t begin;
    worker->lingered = 1;
    pool->priv.lingering = 1;
    evli_exchange(&pool->priv.lazy, 1);
    evl_mutex_unlock(&pool->priv.mutex);
    begin = evli_sys_clock();
    do {
        evli_sys_yield();
    } while (evli_load_node(&pool->priv.incoming) == NULL &&
             evli_sys_clock() - begin < EVLI_POOL_LINGER_NS);
    evl_mutex_lock(&pool->priv.mutex);
    pool->priv.lingering = 0;
}

/* Whether to nap: for one worker at a time, as long as there are short jobs. */
static int evli_worker_naps(evli_worker_t *worker) {
    evl_pool_t *pool = worker->pool;
    if (!EVLI_HAVE_NAPS || !evli_pool_is_quick(pool) || evli_load(&pool->priv.napping) ||
        pool->priv.threads < 2 || worker->seen == pool->priv.completed)
        return 0;
    worker->seen = pool->priv.completed;
    return 1;
}

/* Waits for work, unless there is some that nobody has seen. The pool's mutex is held but for the wait
 * itself. */
static void evli_worker_sleep(evli_worker_t *worker) {
    evl_pool_t *pool = worker->pool;
    uint32_t i, naps = (uint32_t)evli_worker_naps(worker);
    if (naps)
        evli_store(&pool->priv.napping, 1);
    evli_fetch_add(&pool->priv.sleeping, 1 - naps);
    worker->woken = worker->lingered = 0;
    evli_exchange(&pool->priv.waking, 0);
    if (!evli_load(&pool->priv.napping) || !(pool->priv.lingering || evli_pool_moves(pool)))
        evli_exchange(&pool->priv.lazy, 0); /* nobody else looks for what comes in */
    if (evli_load(&pool->priv.lazy) || evli_load_node(&pool->priv.incoming) == NULL) {
        evl_mutex_unlock(&pool->priv.mutex);
        if (naps)
            evli_sys_nap(EVLI_POOL_NAP_NS);
        else
            evl_sem_wait(&pool->priv.wake);
        evl_mutex_lock(&pool->priv.mutex);
        worker->woken = !naps;
    }
    evli_fetch_add(&pool->priv.sleeping, naps - 1);
    if (!naps)
        return;
    evli_exchange(&pool->priv.napping, 0);
    for (i = 0; i < evli_load(&pool->priv.started); i++)
        evli_worker_pay(&pool->priv.workers[i]);
}

/* When there is nothing to do: makes the wake-up that was put off, or lingers, or sleeps. There may be
 * something to do then. */
static void evli_worker_rest(evli_worker_t *worker) {
    if (evli_load_node(&worker->owes) != NULL) {
        evl_mutex_unlock(&worker->pool->priv.mutex);
        evli_worker_pay(worker);
        evl_mutex_lock(&worker->pool->priv.mutex);
    } else if (evli_worker_lingers(worker)) {
        evli_worker_linger(worker);
    } else {
        evli_worker_sleep(worker);
    }
}

/* Whether there is work that nobody does, and enough of it. */
static int evli_pool_has_more(const evl_pool_t *pool, const evli_worker_t *worker) {
    uint64_t jobs = pool->priv.queued + worker->claimed;
    if (pool->priv.batches == 0 && pool->priv.queued == 0 &&
        evli_load_node(&pool->priv.incoming) == NULL)
        return 0; /* with a batch any worker may get stuck, and so may this one */
    return !evli_load(&pool->priv.lazy) || jobs * pool->priv.mean_64 / 64 > EVLI_POOL_WORTH_NS;
}

/* Whether a worker that has claimed something has to wake another one for the rest. One at a time is on
 * its way: it wakes the next, should there still be work then. */
static int evli_worker_wakes(evli_worker_t *worker) {
    evl_pool_t *pool = worker->pool;
    evli_store(&pool->priv.lazy, evli_load(&pool->priv.napping) && evli_pool_is_quick(pool));
    worker->lingered = 0;
    if (worker->woken) {
        worker->woken = 0;
        evli_exchange(&pool->priv.waking, 0); /* before it looks for what came in meanwhile */
    }
    return evli_pool_has_more(pool, worker) && evli_load(&pool->priv.sleeping) > 0 &&
           evli_exchange(&pool->priv.waking, 1) == 0;
}

static void evli_worker_main(void *arg) {
    evli_worker_t *worker = (evli_worker_t *)arg;
    evl_pool_t *pool = worker->pool;
    evli_thread_name(pool->priv.name);
    evl_mutex_lock(&pool->priv.mutex);
    for (;;) {
        int more;
        evli_pool_collect(pool);
        if (!evli_worker_claim_slow(worker) && !evli_worker_relieve(worker))
            evli_worker_claim_some(worker);
        if (worker->claimed == 0)
            evli_worker_steal(worker);
        if (worker->claimed == 0) {
            if (pool->priv.closing) /* who naps makes a wake-up that is owed */
                break;
            evli_worker_rest(worker);
            continue;
        }
        pool->priv.running++;
        pool->priv.batches += worker->claimed > 1 ? 1u : 0u;
        more = evli_worker_wakes(worker);
        evl_mutex_unlock(&pool->priv.mutex);
        if (more)
            evl_sem_post(&pool->priv.wake);
        evli_worker_run(worker);
        evl_mutex_lock(&pool->priv.mutex);
        evli_worker_report(worker);
    }
    evl_mutex_unlock(&pool->priv.mutex);
}

/* Starts the threads of a pool. With fewer than it should have it works as well; with none, no. */
static int evli_pool_start(evl_pool_t *pool) {
    uint32_t i = 0;
    int err = 0;
    evl_mutex_lock(&pool->priv.mutex);
    if (pool->priv.closing)
        err = EVL_EINVAL;
    while (err == 0 && evli_load(&pool->priv.started) == 0 && i < pool->priv.threads) {
        evli_worker_t *worker = &pool->priv.workers[i];
        worker->pool = pool;
        err = evli_worker_thread(&worker->thread, pool->priv.stack_size, evli_worker_main, worker);
        if (err == 0)
            i++;
    }
    if (i > 0) {
        pool->priv.threads = i;
        evli_store(&pool->priv.started, i);
        err = 0;
    }
    evl_mutex_unlock(&pool->priv.mutex);
    return err;
}

/* Gives a job to a pool: it begins as soon as there is a thread for it. Nothing here waits for a
 * worker, which may have been preempted with the mutex in its hands. */
static int evli_pool_submit(evl_pool_t *pool, evli_job_t *job) {
    int running = (job->loop->priv.flags & EVLI_L_RUNNING) != 0;
    int err = evli_load(&pool->priv.started) == 0 ? evli_pool_start(pool) : 0;
    if (err != 0)
        return err;
    if (pool->priv.max_queue > 0 &&
        evli_fetch_add(&pool->priv.bounded, 1) >= pool->priv.max_queue) {
        evli_pool_unbound(pool);
        return EVL_ENOBUFS;
    }
    job->forks = pool->priv.forks;
    job->queued_ns = running ? evli_fresh_ns(job->loop) : evli_sys_clock();
    evli_stack_push(&pool->priv.incoming, &job->in.node);
    if (evli_load(&pool->priv.sleeping) > 0 && !evli_load(&pool->priv.lazy) &&
        evli_exchange(&pool->priv.waking, 1) == 0)
        evl_sem_post(&pool->priv.wake);
    return 0;
}

/* Empties a slot if it holds that job. */
static int evli_slot_empty(evli_node_t **slot, evli_job_t *job) {
    evli_node_t *held = &job->in.node;
    while (!evli_cas_node(slot, &held, NULL))
        if (held != &job->in.node)
            return 0;
    return 1;
}

/* A job that was taken out of the queue comes back to its loop as cancelled. */
static void evli_job_cancelled(evli_job_t *job) {
    evli_pool_unbound(job->pool);
    job->error = EVL_ECANCELED;
    evli_job_finished(job);
}

static int evli_job_cancel(evli_job_t *job) {
    evl_pool_t *pool = job->pool;
    int waits;
    if (evli_load(&job->back))
        return EVL_EBUSY;
    evl_mutex_lock(&pool->priv.mutex);
    evli_pool_collect(pool);
    if (job->slot != NULL) { /* it has been claimed */
        waits = evli_slot_empty(job->slot, job);
    } else {
        waits = job->in.link.next != NULL;
        evli_list_remove(&job->in.link);
        pool->priv.queued -= (uint32_t)waits;
    }
    evl_mutex_unlock(&pool->priv.mutex);
    if (!waits)
        return EVL_EBUSY;
    evli_job_cancelled(job);
    return 0;
}

#endif /* !EVLOOP_NO_THREADS */

/* ==== [SECTION] Pool functions ==== */

#if !defined(EVLOOP_NO_THREADS)

static int evli_pool_init_sync(evl_pool_t *pool) {
    int err = evl_mutex_init(&pool->priv.mutex);
    if (err != 0)
        return err;
    err = evl_sem_init(&pool->priv.wake, 0);
    if (err != 0)
        evl_mutex_destroy(&pool->priv.mutex);
    return err;
}

#if defined(_WIN32)

static int evli_pool_register(evl_pool_t *pool) {
    (void)pool;
    return 0;
}

static void evli_pool_unregister(evl_pool_t *pool) {
    (void)pool;
}

#else

/* A forked child has no workers, and must not do what the parent's loops wait for. While the process
 * is forked, all pools are held, so that the child finds their queues whole: it empties them, and
 * marks what waited there. evl_loop_fork starts that anew; what ran is cancelled. */
static pthread_mutex_t evli_pools_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t evli_pools_once = PTHREAD_ONCE_INIT;
static evl_pool_t *evli_pools;
static int evli_pools_error;

static void evli_pools_hold(void) {
    evl_pool_t *pool;
    pthread_mutex_lock(&evli_pools_mutex);
    for (pool = evli_pools; pool != NULL; pool = pool->priv.next)
        evl_mutex_lock(&pool->priv.mutex);
}

static void evli_pools_release(void) {
    evl_pool_t *pool;
    for (pool = evli_pools; pool != NULL; pool = pool->priv.next)
        evl_mutex_unlock(&pool->priv.mutex);
    pthread_mutex_unlock(&evli_pools_mutex);
}

static void evli_pool_mark(evli_link_t *list) {
    while (!evli_list_empty(list))
        EVLI_OF(evli_list_pop(list), evli_job_t, in.link)->error = EVL_EAGAIN;
}

static void evli_pool_forked(evl_pool_t *pool) {
    uint32_t i, n;
    for (i = 0; i < pool->priv.threads; i++) {
        evli_worker_t *worker = &pool->priv.workers[i];
        for (n = 0; n < EVLI_POOL_CLAIM; n++)
            if (worker->slots[n] != NULL)
                EVLI_OF(worker->slots[n], evli_job_t, in.node)->error = EVL_EAGAIN;
        memset(worker, 0, sizeof(*worker));
    }
    evli_pool_collect(pool);
    evli_pool_mark(&pool->priv.queue);
    evli_pool_mark(&pool->priv.slow);
    pool->priv.queued = pool->priv.bounded = pool->priv.lazy = 0;
    pool->priv.napping = pool->priv.lingering = 0;
    pool->priv.sleeping = pool->priv.waking = pool->priv.started = 0;
    pool->priv.running = pool->priv.slow_running = pool->priv.batches = 0;
    pool->priv.forks++;
    evl_mutex_unlock(&pool->priv.mutex);
    evli_pool_init_sync(pool);
}

static void evli_pools_forked(void) {
    evl_pool_t *pool;
    for (pool = evli_pools; pool != NULL; pool = pool->priv.next)
        evli_pool_forked(pool);
    pthread_mutex_unlock(&evli_pools_mutex);
}

static void evli_pools_init(void) {
    evli_pools_error = -pthread_atfork(evli_pools_hold, evli_pools_release, evli_pools_forked);
}

static int evli_pool_register(evl_pool_t *pool) {
    pthread_once(&evli_pools_once, evli_pools_init);
    if (evli_pools_error != 0)
        return evli_pools_error;
    pthread_mutex_lock(&evli_pools_mutex);
    pool->priv.next = evli_pools;
    evli_pools = pool;
    pthread_mutex_unlock(&evli_pools_mutex);
    return 0;
}

static void evli_pool_unregister(evl_pool_t *pool) {
    evl_pool_t **at;
    pthread_mutex_lock(&evli_pools_mutex);
    for (at = &evli_pools; *at != pool; at = &(*at)->priv.next) {}
    *at = pool->priv.next;
    pthread_mutex_unlock(&evli_pools_mutex);
}

#endif

static void evli_pool_free(evl_pool_t *pool) {
    evli_free(pool->priv.workers);
    evli_free(pool->priv.wait_ns);
    evli_free(pool->priv.run_ns);
    evl_sem_destroy(&pool->priv.wake);
    evl_mutex_destroy(&pool->priv.mutex);
}

EVLOOP_API int evl_pool_init(evl_pool_t *pool, const evl_pool_options_t *options) {
    unsigned threads = options != NULL && options->threads != 0 ? options->threads : 4;
    int err;
    if (threads > EVLI_POOL_MAX_THREADS)
        return EVL_EINVAL;
    memset(&pool->priv, 0, sizeof(pool->priv));
    pool->priv.mean_64 = 64 * EVLI_NS_PER_MS; /* until it is known better */
    err = evli_pool_init_sync(pool);
    if (err != 0)
        return err;
    pool->priv.workers = (evli_worker_t *)evli_calloc(threads, sizeof(evli_worker_t));
    pool->priv.wait_ns = (evl_histogram_t *)evli_calloc(1, sizeof(evl_histogram_t));
    pool->priv.run_ns = (evl_histogram_t *)evli_calloc(1, sizeof(evl_histogram_t));
    if (pool->priv.workers == NULL || pool->priv.wait_ns == NULL || pool->priv.run_ns == NULL) {
        evli_pool_free(pool);
        return EVL_ENOMEM;
    }
    evli_list_init(&pool->priv.queue);
    evli_list_init(&pool->priv.slow);
    pool->priv.threads = threads;
    pool->priv.max_queue = options != NULL ? options->max_queue : 0;
    pool->priv.stack_size = options != NULL ? options->stack_size : 0;
    snprintf(pool->priv.name, sizeof(pool->priv.name), "%s",
             options != NULL && options->name != NULL ? options->name : "evloop");
    err = evli_pool_register(pool);
    if (err != 0)
        evli_pool_free(pool);
    return err;
}

EVLOOP_API int evl_pool_close(evl_pool_t *pool) {
    uint32_t i, started = evli_load(&pool->priv.started);
    evl_thread_t self = evl_thread_self();
    for (i = 0; i < started; i++)
        if (evl_thread_equal(&pool->priv.workers[i].thread, &self))
            return EVL_EBUSY;
    evl_mutex_lock(&pool->priv.mutex);
    pool->priv.closing = 1;
    evl_mutex_unlock(&pool->priv.mutex);
    for (i = 0; i < started; i++)
        evl_sem_post(&pool->priv.wake);
    for (i = 0; i < started; i++)
        evl_thread_join(&pool->priv.workers[i].thread);
    evli_pool_unregister(pool);
    evli_pool_free(pool);
    return 0;
}

static evl_pool_t evli_default_pool;
static uint32_t evli_default_pool_ready; /* atomic */
static evl_once_t evli_default_pool_once = EVL_ONCE_INIT;
static evl_mutex_t evli_default_pool_mutex;
static int evli_default_pool_error; /* of making the mutex */

/* Under libuv's names its variable counts, too. */
#if defined(EVLOOP_UV_NAMES)
#define EVLI_POOL_SIZE_TOO "UV_THREADPOOL_SIZE"
#else
#define EVLI_POOL_SIZE_TOO ""
#endif

/* The threads of the default pool: what the environment says, within bounds. */
static unsigned evli_default_pool_threads(void) {
    const char *own = getenv("EVLOOP_THREADPOOL_SIZE");
    const char *text = own != NULL ? own : getenv(EVLI_POOL_SIZE_TOO);
    long threads = text != NULL && text[0] != '\0' ? strtol(text, NULL, 10) : EVLI_POOL_THREADS;
    return threads < 1                       ? 1
           : threads > EVLI_POOL_MAX_THREADS ? EVLI_POOL_MAX_THREADS
                                             : (unsigned)threads;
}

static void evli_default_pool_begin(void) {
    evli_default_pool_error = evl_mutex_init(&evli_default_pool_mutex);
}

/* Makes the default pool, or makes it anew when that has failed or it was shut down. */
static int evli_default_pool_init(void) {
    evl_pool_options_t options;
    int err = 0;
    evl_once(&evli_default_pool_once, evli_default_pool_begin);
    if (evli_default_pool_error != 0)
        return evli_default_pool_error;
    memset(&options, 0, sizeof(options));
    options.threads = evli_default_pool_threads();
    evl_mutex_lock(&evli_default_pool_mutex);
    if (!evli_load(&evli_default_pool_ready))
        err = evl_pool_init(&evli_default_pool, &options);
    if (err == 0)
        evli_store(&evli_default_pool_ready, 1);
    evl_mutex_unlock(&evli_default_pool_mutex);
    return err;
}

/* Puts the default pool where there is NULL. */
static int evli_pool_or_default(evl_pool_t **pool) {
    int err = 0;
    if (*pool != NULL)
        return 0;
    if (!evli_load(&evli_default_pool_ready))
        err = evli_default_pool_init();
    *pool = &evli_default_pool;
    return err;
}

static void evli_default_pool_close(void) {
    if (evli_exchange(&evli_default_pool_ready, 0))
        evl_pool_close(&evli_default_pool);
}

EVLOOP_API int evl_pool_stats(evl_pool_t *pool, evl_pool_stats_t *out) {
    uint32_t i;
    int err = evli_pool_or_default(&pool);
    if (err != 0)
        return err;
    if (out == NULL)
        return EVL_EINVAL;
    evl_mutex_lock(&pool->priv.mutex);
    evli_pool_collect(pool);
    out->threads = evli_load(&pool->priv.started);
    out->running = pool->priv.running;
    out->idle = out->threads - out->running;
    out->queued = pool->priv.queued;
    for (i = 0; i < out->threads * EVLI_POOL_CLAIM; i++) /* and what is claimed and not begun */
        out->queued +=
            evli_load_node(&pool->priv.workers[i / EVLI_POOL_CLAIM].slots[i % EVLI_POOL_CLAIM]) !=
            NULL;
    out->completed = pool->priv.completed;
    out->wait_ns = *pool->priv.wait_ns;
    out->run_ns = *pool->priv.run_ns;
    evl_mutex_unlock(&pool->priv.mutex);
    return 0;
}

/* Starts a job for a request that has been filled in. */
static int evli_job_start(evl_loop_t *loop, evli_job_t *job, const evli_job_kind_t *kind) {
    evl_pool_t *pool = loop->priv.pool;
    int err = evli_pool_or_default(&pool);
    if (err != 0)
        return err;
    memset(job, 0, sizeof(*job));
    job->loop = loop;
    job->pool = pool;
    job->kind = kind;
    evli_list_push(&loop->priv.jobs, &job->own);
    err = evli_pool_submit(pool, job);
    if (err == 0)
        loop->priv.active_reqs++;
    else
        evli_list_remove(&job->own);
    return err;
}

#else

/* Without threads a pool is only a name: jobs run when their loop comes to them. */
EVLOOP_API int evl_pool_init(evl_pool_t *pool, const evl_pool_options_t *options) {
    if (options != NULL && options->threads > 1024)
        return EVL_EINVAL;
    memset(&pool->priv, 0, sizeof(pool->priv));
    pool->priv.max_queue = options != NULL ? options->max_queue : 0;
    return 0;
}

EVLOOP_API int evl_pool_close(evl_pool_t *pool) {
    (void)pool;
    return 0;
}

static void evli_default_pool_close(void) {}

EVLOOP_API int evl_pool_stats(evl_pool_t *pool, evl_pool_stats_t *out) {
    if (out == NULL)
        return EVL_EINVAL;
    memset(out, 0, sizeof(*out));
    if (pool != NULL) {
        out->queued = pool->priv.queued;
        out->completed = pool->priv.completed;
    }
    return 0;
}

static int evli_job_start(evl_loop_t *loop, evli_job_t *job, const evli_job_kind_t *kind) {
    evl_pool_t *pool = loop->priv.pool;
    if (pool != NULL && pool->priv.max_queue != 0 && pool->priv.queued >= pool->priv.max_queue)
        return EVL_ENOBUFS;
    memset(job, 0, sizeof(*job));
    job->loop = loop;
    job->pool = pool;
    job->kind = kind;
    if (pool != NULL)
        pool->priv.queued++;
    evli_list_push(&loop->priv.jobs, &job->own);
    evli_send(loop, &job->in.node, EVLI_NODE_JOB);
    loop->priv.active_reqs++;
    return 0;
}

static int evli_job_cancel(evli_job_t *job) {
    if (job->error != 0 || job->own.next == NULL)
        return EVL_EBUSY;
    job->error = EVL_ECANCELED;
    return 0;
}

#endif

#if !defined(EVLOOP_NO_THREADS)

/* After fork: starts anew what waited for a thread, and gives up what had one, unless it is back. What
 * an earlier call has started since the fork is left alone. */
static void evli_jobs_forked(evl_loop_t *loop) {
    evli_node_t *node;
    evli_link_t *link;
    for (node = loop->priv.done.taken; node != NULL; node = node->next)
        EVLI_OF(node, evli_job_t, in.node)->back = 2; /* it has arrived */
    for (node = loop->priv.done.batch; node != NULL; node = node->next)
        EVLI_OF(node, evli_job_t, in.node)->back = 2;
    for (link = loop->priv.jobs.next; link != &loop->priv.jobs; link = link->next) {
        evli_job_t *job = EVLI_OF(link, evli_job_t, own);
        int err = job->error == EVL_EAGAIN ? 0 : (int)EVL_ECANCELED;
        if (job->back == 2 || job->forks == job->pool->priv.forks)
            continue;
        job->error = 0;
        if (err == 0)
            err = evli_pool_submit(job->pool, job);
        if (err == 0)
            continue;
        job->error = err;
        job->back = 1;
        evli_send(loop, &job->in.node, EVLI_NODE_JOB);
    }
}

#else

static void evli_jobs_forked(evl_loop_t *loop) {
    (void)loop;
}

#endif

/* Takes back what no thread has begun. */
static void evli_jobs_cancel(evl_loop_t *loop) {
    evli_link_t *link;
    for (link = loop->priv.jobs.next; link != &loop->priv.jobs; link = link->next)
        evli_job_cancel(EVLI_OF(link, evli_job_t, own));
}

EVLOOP_API int evl_loop_set_pool(evl_loop_t *loop, evl_pool_t *pool) {
    loop->priv.pool = pool;
    return 0;
}

/* ==== [SECTION] Work functions ==== */

static void evli_work_run(evli_job_t *job) {
    evl_work_t *req = EVLI_OF(job, evl_work_t, priv.job);
    req->work_cb(req);
}

static void evli_work_done(evl_loop_t *loop, evli_job_t *job) {
    evl_work_t *req = EVLI_OF(job, evl_work_t, priv.job);
    if (req->after_work_cb != NULL)
        EVLI_CALL(loop, req->after_work_cb(req, job->error));
}

static const evli_job_kind_t evli_work_job = {evli_work_run, evli_work_done, 0};

EVLOOP_API int evl_queue_work(evl_loop_t *loop, evl_work_t *req, evl_work_cb work_cb,
                              evl_after_work_cb after_work_cb) {
    if (work_cb == NULL)
        return EVL_EINVAL;
    req->type = EVL_WORK;
    req->loop = loop;
    req->work_cb = work_cb;
    req->after_work_cb = after_work_cb;
    return evli_job_start(loop, &req->priv.job, &evli_work_job);
}

#if !defined(EVLOOP_NO_DNS)

static int evli_cancel_lookup(evl_req_t *req) {
    if (req->type == EVL_GETADDRINFO)
        return evli_job_cancel(&((evl_getaddrinfo_t *)req)->priv.job);
    if (req->type == EVL_GETNAMEINFO)
        return evli_job_cancel(&((evl_getnameinfo_t *)req)->priv.job);
    return EVL_EINVAL;
}

#else

static int evli_cancel_lookup(evl_req_t *req) {
    (void)req;
    return EVL_EINVAL;
}

#endif

EVLOOP_API int evl_cancel(evl_req_t *req) {
    if (req->type == EVL_FS)
        return evli_job_cancel(&((evl_fs_t *)req)->priv.job);
    if (req->type == EVL_WORK)
        return evli_job_cancel(&((evl_work_t *)req)->priv.job);
    if (req->type == EVL_RANDOM)
        return evli_job_cancel(&((evl_random_t *)req)->priv.job);
    return evli_cancel_lookup(req);
}

static void evli_random_run(evli_job_t *job) {
    evl_random_t *req = EVLI_OF(job, evl_random_t, priv.job);
    req->status = evli_sys_random((char *)req->buf, req->buflen);
}

static void evli_random_done(evl_loop_t *loop, evli_job_t *job) {
    evl_random_t *req = EVLI_OF(job, evl_random_t, priv.job);
    if (job->error != 0)
        req->status = job->error;
    EVLI_CALL(loop, req->cb(req, req->status, req->buf, req->buflen));
}

static const evli_job_kind_t evli_random_job = {evli_random_run, evli_random_done, 0};

EVLOOP_API int evl_random(evl_loop_t *loop, evl_random_t *req, void *buf, size_t buflen,
                          unsigned flags, evl_random_cb cb) {
    if (buflen > 0x7fffffff)
        return EVL_E2BIG;
    if (flags != 0)
        return EVL_EINVAL;
    if (cb == NULL)
        return evli_sys_random((char *)buf, buflen);
    if (loop == NULL || req == NULL)
        return EVL_EINVAL;
    req->type = EVL_RANDOM;
    req->loop = loop;
    req->status = 0;
    req->buf = buf;
    req->buflen = buflen;
    req->cb = cb;
    return evli_job_start(loop, &req->priv.job, &evli_random_job);
}

/* ==== [SECTION] File contract ==== */

#if !defined(EVLOOP_NO_FS)

/* What each system does for files, on whichever thread calls. There are two layers.
 *
 * First, for each type of request that is not listed below, `int64_t evli_fs_<type>(evl_fs_t *req)`,
 * which finds its arguments in req->path and req->priv and returns a result or an EVL_E… code. It
 * never returns EVL_EINTR once it has done a part: then it is begun anew. What it gives besides goes
 * into req->ptr (memory of evli_malloc, which evl_fs_req_cleanup frees) or req->statbuf. stat, lstat
 * and fstat are one function, as are utime, futime and lutime.
 *
 * Second, below reading, writing, copying and directories, whose logic is shared: */

/* Moves bytes between a file and up to EVLI_FILE_IOV_MAX buffers, of which the first is not empty
 * unless all are: at an offset, or where the file is (-1). A read fills the buffers as far as there is
 * something without waiting for more; a write may do only a part. Both retry when interrupted. */
static int64_t evli_sys_file_read(evl_file file, const evl_buf_t *bufs, size_t nbufs,
                                  int64_t offset);
static int64_t evli_sys_file_write(evl_file file, const evl_buf_t *bufs, size_t nbufs,
                                   int64_t offset);

/* Waits until a file that said EVL_EAGAIN takes something. */
static int evli_sys_file_wait(evl_file file);

/* Moves a file back by as many bytes, if it has a position. */
static void evli_sys_file_back(evl_file file, int64_t distance);

/* A directory, entry by entry: 1, 0 at the end, or an error. A name is there until the next call. */
struct evli_dir_s;
static int evli_sys_opendir(const char *path, struct evli_dir_s **dir);
static int evli_sys_readdir(struct evli_dir_s *dir, evl_dirent_t *entry);
static int evli_sys_closedir(struct evli_dir_s *dir);

/* The system's code for the result of a request. */
static int evli_fs_system_error(const evl_fs_t *req);

/* For the systems' use in turn: copies by reading and writing, up to the end or `length` bytes, and
 * tells how many; and does so for a request of sendfile. */
static int evli_fs_copy_through(evl_file out, evl_file in, int64_t offset, uint64_t length,
                                uint64_t *done);
static int64_t evli_fs_sendfile_through(evl_fs_t *req);

/* Times to set are microseconds since 1970, or one of these. */
#define EVLI_TIME_OMIT INT64_MIN
#define EVLI_TIME_NOW  INT64_MAX

#endif /* !EVLOOP_NO_FS */

/* ==== [SECTION] POSIX files ==== */

#if !defined(EVLOOP_NO_FS) && !defined(_WIN32)

static int64_t evli_fs_result(int64_t r) {
    return r < 0 ? -errno : r;
}

static int evli_fs_system_error(const evl_fs_t *req) {
    return req->result < 0 ? (int)-req->result : 0;
}

static int64_t evli_fs_open(evl_fs_t *req) {
    return evli_fs_result(
        EVLI_LARGE(open)(req->path, req->priv.flags | O_CLOEXEC, (mode_t)req->priv.mode));
}

/* Interrupted it is closed all the same. */
static int64_t evli_fs_close(evl_fs_t *req) {
    int r = close(req->priv.file);
    return r < 0 && errno != EINTR && errno != EINPROGRESS ? -errno : 0;
}

#if EVLI_HAVE_PREADV

static ssize_t evli_sys_preadv(int fd, const evl_buf_t *bufs, size_t nbufs, int64_t offset) {
    const struct iovec *iov = (const struct iovec *)(const void *)bufs;
    return EVLI_LARGE(preadv)(fd, iov, (int)nbufs, offset);
}

static ssize_t evli_sys_pwritev(int fd, const evl_buf_t *bufs, size_t nbufs, int64_t offset) {
    const struct iovec *iov = (const struct iovec *)(const void *)bufs;
    return EVLI_LARGE(pwritev)(fd, iov, (int)nbufs, offset);
}

#else

static ssize_t evli_sys_preadv(int fd, const evl_buf_t *bufs, size_t nbufs, int64_t offset) {
    ssize_t n, done = 0;
    size_t i;
    for (i = 0; i < nbufs; i++) {
        n = pread(fd, bufs[i].base, bufs[i].len, offset + done);
        if (n < 0)
            return done > 0 ? done : n;
        done += n;
        if ((size_t)n < bufs[i].len)
            break;
    }
    return done;
}

/* The first buffer: who calls it goes on with the next. */
static ssize_t evli_sys_pwritev(int fd, const evl_buf_t *bufs, size_t nbufs, int64_t offset) {
    (void)nbufs;
    return pwrite(fd, bufs[0].base, bufs[0].len, offset);
}

#endif

static int64_t evli_sys_file_read(evl_file file, const evl_buf_t *bufs, size_t nbufs,
                                  int64_t offset) {
    const struct iovec *iov = (const struct iovec *)(const void *)bufs;
    size_t most = EVLOOP_SHORT("read", bufs[0].len);
    ssize_t n;
    int fault;
    do {
        fault = EVLOOP_FAULT("read");
        if (fault)
            n = evli_fail(fault);
        else if (nbufs == 1 || most < bufs[0].len)
            n = offset < 0 ? read(file, bufs[0].base, most)
                           : EVLI_LARGE(pread)(file, bufs[0].base, most, offset);
        else
            n = offset < 0 ? readv(file, iov, (int)nbufs)
                           : evli_sys_preadv(file, bufs, nbufs, offset);
    } while (n < 0 && errno == EINTR);
    return evli_fs_result(n);
}

static int64_t evli_sys_file_write(evl_file file, const evl_buf_t *bufs, size_t nbufs,
                                   int64_t offset) {
    const struct iovec *iov = (const struct iovec *)(const void *)bufs;
    size_t most = EVLOOP_SHORT("write", bufs[0].len);
    ssize_t n;
    int fault;
    do {
        fault = EVLOOP_FAULT("write");
        if (fault)
            n = evli_fail(fault);
        else if (nbufs == 1 || most < bufs[0].len)
            n = offset < 0 ? write(file, bufs[0].base, most)
                           : EVLI_LARGE(pwrite)(file, bufs[0].base, most, offset);
        else
            n = offset < 0 ? writev(file, iov, (int)nbufs)
                           : evli_sys_pwritev(file, bufs, nbufs, offset);
    } while (n < 0 && errno == EINTR);
    return evli_fs_result(n);
}

/* Waits until a nonblocking descriptor takes something. */
static int evli_sys_file_wait(evl_file file) {
    struct pollfd room;
    int r;
    room.fd = file;
    room.events = POLLOUT;
    do
        r = poll(&room, 1, -1);
    while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : 0;
}

static void evli_sys_file_back(evl_file file, int64_t distance) {
    EVLI_LARGE(lseek)(file, -distance, SEEK_CUR);
}

/* The last second there is, rather than another, where a long has 32 bits. */
static evl_timespec_t evli_timespec(int64_t sec, int64_t nsec) {
    evl_timespec_t time;
    time.tv_sec = (long)sec;
    if (time.tv_sec != sec)
        time.tv_sec = sec < 0 ? LONG_MIN : LONG_MAX;
    time.tv_nsec = (long)nsec;
    return time;
}

#if defined(__APPLE__)

static void evli_stat_times(const struct EVLI_LARGE(stat) * from, evl_stat_t *to) {
    to->st_atim = evli_timespec(from->st_atimespec.tv_sec, from->st_atimespec.tv_nsec);
    to->st_mtim = evli_timespec(from->st_mtimespec.tv_sec, from->st_mtimespec.tv_nsec);
    to->st_ctim = evli_timespec(from->st_ctimespec.tv_sec, from->st_ctimespec.tv_nsec);
    to->st_birthtim = evli_timespec(from->st_birthtimespec.tv_sec, from->st_birthtimespec.tv_nsec);
    to->st_flags = from->st_flags;
    to->st_gen = from->st_gen;
}

#else

#if defined(__FreeBSD__) || defined(__NetBSD__)

static void evli_stat_more(const struct stat *from, evl_stat_t *to) {
    to->st_birthtim = evli_timespec(from->st_birthtim.tv_sec, from->st_birthtim.tv_nsec);
    to->st_flags = from->st_flags;
    to->st_gen = from->st_gen;
}

#else

static void evli_stat_more(const struct EVLI_LARGE(stat) * from, evl_stat_t *to) {
    (void)from;
    to->st_birthtim = to->st_ctim;
}

#endif

static void evli_stat_times(const struct EVLI_LARGE(stat) * from, evl_stat_t *to) {
    to->st_atim = evli_timespec(from->st_atim.tv_sec, (int64_t)from->st_atim.tv_nsec);
    to->st_mtim = evli_timespec(from->st_mtim.tv_sec, (int64_t)from->st_mtim.tv_nsec);
    to->st_ctim = evli_timespec(from->st_ctim.tv_sec, (int64_t)from->st_ctim.tv_nsec);
    evli_stat_more(from, to);
}

#endif

static int64_t evli_fs_stat_plain(evl_fs_t *req) {
    struct EVLI_LARGE(stat) from;
    evl_stat_t *to = &req->statbuf;
    int r = req->fs_type == EVL_FS_STAT    ? EVLI_LARGE(stat)(req->path, &from)
            : req->fs_type == EVL_FS_LSTAT ? EVLI_LARGE(lstat)(req->path, &from)
                                           : EVLI_LARGE(fstat)(req->priv.file, &from);
    if (r < 0)
        return -errno;
    memset(to, 0, sizeof(*to));
    to->st_dev = (uint64_t)from.st_dev;
    to->st_mode = from.st_mode;
    to->st_nlink = from.st_nlink;
    to->st_uid = from.st_uid;
    to->st_gid = from.st_gid;
    to->st_rdev = (uint64_t)from.st_rdev;
    to->st_ino = from.st_ino;
    to->st_size = (uint64_t)from.st_size;
    to->st_blksize = (uint64_t)from.st_blksize;
    to->st_blocks = (uint64_t)from.st_blocks;
    evli_stat_times(&from, to);
    req->ptr = to;
    return 0;
}

#if EVLI_HAVE_STATX

static evl_timespec_t evli_statx_time(const struct statx_timestamp *time) {
    return evli_timespec(time->tv_sec, time->tv_nsec);
}

static void evli_stat_from_statx(const struct statx *from, evl_stat_t *to) {
    memset(to, 0, sizeof(*to));
    to->st_dev = makedev(from->stx_dev_major, from->stx_dev_minor);
    to->st_mode = from->stx_mode;
    to->st_nlink = from->stx_nlink;
    to->st_uid = from->stx_uid;
    to->st_gid = from->stx_gid;
    to->st_rdev = makedev(from->stx_rdev_major, from->stx_rdev_minor);
    to->st_ino = from->stx_ino;
    to->st_size = from->stx_size;
    to->st_blksize = from->stx_blksize;
    to->st_blocks = from->stx_blocks;
    to->st_atim = evli_statx_time(&from->stx_atime);
    to->st_mtim = evli_statx_time(&from->stx_mtime);
    to->st_ctim = evli_statx_time(&from->stx_ctime);
    to->st_birthtim =
        from->stx_mask & STATX_BTIME ? evli_statx_time(&from->stx_btime) : to->st_ctim;
}

/* With the time of birth. Kernels before 4.11 do not have the call, some sandboxes forbid it. */
static int64_t evli_fs_stat(evl_fs_t *req) {
    static uint32_t missing; /* atomic */
    struct statx from;
    int fd = req->fs_type == EVL_FS_FSTAT ? req->priv.file : AT_FDCWD;
    int flags = req->fs_type == EVL_FS_FSTAT   ? AT_EMPTY_PATH
                : req->fs_type == EVL_FS_LSTAT ? AT_SYMLINK_NOFOLLOW
                                               : 0;
    const char *path = req->fs_type == EVL_FS_FSTAT ? "" : req->path;
    int fault, r;
    if (evli_load(&missing))
        return evli_fs_stat_plain(req);
    fault = EVLOOP_FAULT("statx");
    r = fault ? evli_fail(fault) : statx(fd, path, flags, STATX_BASIC_STATS | STATX_BTIME, &from);
    if (r < 0 && (errno == ENOSYS || errno == EPERM || errno == EOPNOTSUPP)) {
        if (errno == ENOSYS)
            evli_store(&missing, 1);
        return evli_fs_stat_plain(req);
    }
    if (r < 0)
        return -errno;
    evli_stat_from_statx(&from, &req->statbuf);
    req->ptr = &req->statbuf;
    return 0;
}

#else

static int64_t evli_fs_stat(evl_fs_t *req) {
    return evli_fs_stat_plain(req);
}

#endif

#if defined(__NetBSD__)

static int evli_sys_statfs(const char *path, struct EVLI_STATFS *from) {
    return statvfs(path, from);
}

static void evli_statfs_more(const struct EVLI_STATFS *from, evl_statfs_t *to) {
    to->f_frsize = from->f_frsize;
}

#else

static int evli_sys_statfs(const char *path, struct EVLI_STATFS *from) {
    return EVLI_LARGE(statfs)(path, from);
}

#if defined(__linux__)

static void evli_statfs_more(const struct EVLI_STATFS *from, evl_statfs_t *to) {
    to->f_type = (uint64_t)from->f_type;
    to->f_frsize = (uint64_t)from->f_frsize;
}

#elif defined(__OpenBSD__)

static void evli_statfs_more(const struct EVLI_STATFS *from, evl_statfs_t *to) {
    to->f_frsize = from->f_bsize;
}

#else

static void evli_statfs_more(const struct EVLI_STATFS *from, evl_statfs_t *to) {
    to->f_type = (uint64_t)from->f_type;
    to->f_frsize = (uint64_t)from->f_bsize;
}

#endif

#endif

static int64_t evli_fs_statfs(evl_fs_t *req) {
    struct EVLI_STATFS from;
    evl_statfs_t *to;
    if (evli_sys_statfs(req->path, &from) < 0)
        return -errno;
    to = (evl_statfs_t *)evli_calloc(1, sizeof(*to));
    if (to == NULL)
        return EVL_ENOMEM;
    to->f_bsize = (uint64_t)from.f_bsize;
    to->f_blocks = (uint64_t)from.f_blocks;
    to->f_bfree = (uint64_t)from.f_bfree;
    to->f_bavail = (uint64_t)from.f_bavail;
    to->f_files = (uint64_t)from.f_files;
    to->f_ffree = (uint64_t)from.f_ffree;
    evli_statfs_more(&from, to);
    req->ptr = to;
    return 0;
}

static int64_t evli_fs_access(evl_fs_t *req) {
    return evli_fs_result(access(req->path, req->priv.mode));
}

static int64_t evli_fs_chmod(evl_fs_t *req) {
    return evli_fs_result(chmod(req->path, (mode_t)req->priv.mode));
}

static int64_t evli_fs_fchmod(evl_fs_t *req) {
    return evli_fs_result(fchmod(req->priv.file, (mode_t)req->priv.mode));
}

static int64_t evli_fs_chown(evl_fs_t *req) {
    return evli_fs_result(chown(req->path, req->priv.args.owner.uid, req->priv.args.owner.gid));
}

static int64_t evli_fs_fchown(evl_fs_t *req) {
    return evli_fs_result(
        fchown(req->priv.file, req->priv.args.owner.uid, req->priv.args.owner.gid));
}

static int64_t evli_fs_lchown(evl_fs_t *req) {
    return evli_fs_result(lchown(req->path, req->priv.args.owner.uid, req->priv.args.owner.gid));
}

static struct timespec evli_utime(int64_t us) {
    struct timespec to;
    to.tv_sec = (time_t)(us / 1000000);
    to.tv_nsec = (long)(us % 1000000) * 1000;
    if (us == EVLI_TIME_OMIT) {
        to.tv_nsec = UTIME_OMIT;
    } else if (us == EVLI_TIME_NOW) {
        to.tv_nsec = UTIME_NOW;
    } else if (to.tv_sec != us / 1000000) { /* it has 32 bits: the first or last second there is */
        to.tv_sec = (time_t)(us < 0 ? INT32_MIN : INT32_MAX);
        to.tv_nsec = 0;
    } else if (to.tv_nsec < 0) {
        to.tv_nsec += 1000000000;
        to.tv_sec--;
    }
    return to;
}

static int64_t evli_fs_utime(evl_fs_t *req) {
    struct timespec times[2];
    times[0] = evli_utime(req->priv.args.times_us[0]);
    times[1] = evli_utime(req->priv.args.times_us[1]);
    if (req->fs_type == EVL_FS_FUTIME)
        return evli_fs_result(futimens(req->priv.file, times));
    return evli_fs_result(utimensat(AT_FDCWD, req->path, times,
                                    req->fs_type == EVL_FS_LUTIME ? AT_SYMLINK_NOFOLLOW : 0));
}

static int64_t evli_fs_unlink(evl_fs_t *req) {
    return evli_fs_result(unlink(req->path));
}

static int64_t evli_fs_rename(evl_fs_t *req) {
    return evli_fs_result(rename(req->path, req->priv.new_path));
}

static int64_t evli_fs_link(evl_fs_t *req) {
    return evli_fs_result(link(req->path, req->priv.new_path));
}

static int64_t evli_fs_symlink(evl_fs_t *req) {
    return evli_fs_result(symlink(req->path, req->priv.new_path));
}

/* A link does not tell how long it is: some of /proc's say 0. */
static int64_t evli_fs_readlink(evl_fs_t *req) {
    size_t room = 256;
    for (;; room *= 2) {
        char *target = (char *)evli_malloc(room);
        ssize_t n;
        if (target == NULL)
            return EVL_ENOMEM;
        n = readlink(req->path, target, room);
        if (n >= 0 && (size_t)n < room) {
            target[n] = '\0';
            req->ptr = target;
            return 0;
        }
        evli_free(target);
        if (n < 0)
            return -errno;
    }
}

/* The C library's memory is not ours. */
static int64_t evli_fs_realpath(evl_fs_t *req) {
    char *found = realpath(req->path, NULL);
    size_t size;
    if (found == NULL)
        return -errno;
    size = strlen(found) + 1;
    req->ptr = evli_malloc(size);
    if (req->ptr != NULL)
        memcpy(req->ptr, found, size);
    free(found);
    return req->ptr != NULL ? 0 : (int)EVL_ENOMEM;
}

static int64_t evli_fs_mkdir(evl_fs_t *req) {
    return evli_fs_result(mkdir(req->path, (mode_t)req->priv.mode));
}

static int64_t evli_fs_rmdir(evl_fs_t *req) {
    return evli_fs_result(rmdir(req->path));
}

static int64_t evli_fs_mkdtemp(evl_fs_t *req) {
    return mkdtemp((char *)(uintptr_t)req->path) == NULL ? -errno : 0;
}

#if EVLI_HAVE_ACCEPT4

static int evli_sys_mkstemp(char *path) {
    return EVLI_LARGE(mkostemp)(path, O_CLOEXEC);
}

#else

static int evli_sys_mkstemp(char *path) {
    int fd = mkstemp(path), err = fd < 0 ? 0 : evli_sys_fcntl_add(fd, F_GETFD, F_SETFD, FD_CLOEXEC);
    if (err == 0)
        return fd;
    unlink(path);
    evli_sys_close(fd);
    return evli_fail(-err);
}

#endif

static int64_t evli_fs_mkstemp(evl_fs_t *req) {
    char *path = (char *)(uintptr_t)req->path;
    int64_t fd = evli_fs_result(evli_sys_mkstemp(path));
    if (fd < 0)
        path[0] = '\0';
    return fd;
}

#if defined(__APPLE__)

/* There fsync leaves the data in the disk's own memory. */
static int64_t evli_fs_fsync(evl_fs_t *req) {
    int r = fcntl(req->priv.file, F_FULLFSYNC);
    return evli_fs_result(r < 0 && errno != EINTR && errno != EBADF ? fsync(req->priv.file) : r);
}

#else

static int64_t evli_fs_fsync(evl_fs_t *req) {
    return evli_fs_result(fsync(req->priv.file));
}

#endif

#if defined(_POSIX_SYNCHRONIZED_IO) && _POSIX_SYNCHRONIZED_IO > 0 && !defined(__APPLE__)

static int64_t evli_fs_fdatasync(evl_fs_t *req) {
    return evli_fs_result(fdatasync(req->priv.file));
}

#else

static int64_t evli_fs_fdatasync(evl_fs_t *req) {
    return evli_fs_fsync(req);
}

#endif

static int64_t evli_fs_ftruncate(evl_fs_t *req) {
    return evli_fs_result(EVLI_LARGE(ftruncate)(req->priv.file, req->priv.args.span.offset));
}

/* ---- Directories: an entry at a time ---- */

static evl_dirent_type_t evli_dirent_type(unsigned type) {
    static const evl_dirent_type_t types[] = {
        EVL_DIRENT_UNKNOWN, EVL_DIRENT_FIFO,    EVL_DIRENT_CHAR,  EVL_DIRENT_UNKNOWN,
        EVL_DIRENT_DIR,     EVL_DIRENT_UNKNOWN, EVL_DIRENT_BLOCK, EVL_DIRENT_UNKNOWN,
        EVL_DIRENT_FILE,    EVL_DIRENT_UNKNOWN, EVL_DIRENT_LINK,  EVL_DIRENT_UNKNOWN,
        EVL_DIRENT_SOCKET};
    return type < EVLI_COUNT(types) ? types[type] : EVL_DIRENT_UNKNOWN;
}

#if defined(__linux__)

/* With a larger buffer than readdir has: a big directory takes fewer calls. */
struct evli_dir_s {
    int fd;
    size_t at, end;
    char entries[65536];
};

static int evli_sys_opendir(const char *path, struct evli_dir_s **dir) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    *dir = (struct evli_dir_s *)evli_malloc(sizeof(**dir));
    if (*dir == NULL) {
        evli_sys_close(fd);
        return EVL_ENOMEM;
    }
    (*dir)->fd = fd;
    (*dir)->at = (*dir)->end = 0;
    return 0;
}

/* Gives the next entry, whose name is there until the next call. Returns 1, 0 at the end, an error. */
static int evli_sys_readdir(struct evli_dir_s *dir, evl_dirent_t *entry) {
    enum { SIZE_AT = 16, TYPE_AT = 18, NAME_AT = 19 }; /* in a struct linux_dirent64 */
    const char *at;
    uint16_t size;
    if (dir->at == dir->end) {
        long n;
        int fault;
        do {
            fault = EVLOOP_FAULT("getdents");
            n = fault ? evli_fail(fault)
                      : syscall(SYS_getdents64, dir->fd, dir->entries, sizeof(dir->entries));
        } while (n < 0 && errno == EINTR);
        if (n <= 0) /* ENOENT: it was removed meanwhile */
            return n < 0 && errno != ENOENT ? -errno : 0;
        dir->at = 0;
        dir->end = (size_t)n;
    }
    at = dir->entries + dir->at;
    memcpy(&size, at + SIZE_AT, sizeof(size));
    dir->at += size;
    entry->name = at + NAME_AT;
    entry->type = evli_dirent_type((unsigned char)at[TYPE_AT]);
    return 1;
}

static int evli_sys_closedir(struct evli_dir_s *dir) {
    evli_sys_close(dir->fd);
    evli_free(dir);
    return 0;
}

#else

struct evli_dir_s {
    DIR *dir;
};

static int evli_sys_opendir(const char *path, struct evli_dir_s **dir) {
    *dir = (struct evli_dir_s *)evli_malloc(sizeof(**dir));
    if (*dir == NULL)
        return EVL_ENOMEM;
    (*dir)->dir = opendir(path);
    if ((*dir)->dir == NULL) {
        int err = -errno;
        evli_free(*dir);
        return err;
    }
    return 0;
}

static int evli_sys_readdir(struct evli_dir_s *dir, evl_dirent_t *entry) {
    struct dirent *found;
    int fault = EVLOOP_FAULT("getdents");
    errno = fault;
    found = fault ? NULL : readdir(dir->dir);
    if (found == NULL)
        return -errno;
    entry->name = found->d_name;
    entry->type = evli_dirent_type(found->d_type);
    return 1;
}

static int evli_sys_closedir(struct evli_dir_s *dir) {
    int r = closedir(dir->dir);
    evli_free(dir);
    return r < 0 ? -errno : 0;
}

#endif

/* ---- Copying ---- */

#if defined(__linux__)

/* One call moves at most 2 GiB, and only what the kernel can map; the rest has to be copied here. */
static int64_t evli_fs_sendfile(evl_fs_t *req) {
    int64_t offset = req->priv.args.span.offset;
    evli_off_t at = offset;
    ssize_t n;
    int fault;
    do {
        fault = EVLOOP_FAULT("sendfile");
        n = fault ? evli_fail(fault)
                  : EVLI_LARGE(sendfile)(req->priv.out, req->priv.file, offset < 0 ? NULL : &at,
                                         req->priv.args.span.length);
    } while (n < 0 && errno == EINTR);
    if (n < 0 && (errno == EINVAL || errno == ENOSYS || errno == EIO || errno == EXDEV))
        return evli_fs_sendfile_through(req);
    return evli_fs_result(n);
}

/* Servers of Windows refuse to change modes; the copy is none the worse for that. */
static int evli_sys_keeps_no_modes(int fd) {
    struct EVLI_LARGE(statfs) fs;
    uint32_t type = EVLI_LARGE(fstatfs)(fd, &fs) < 0 ? 0 : (uint32_t)fs.f_type;
    return type == 0xff534d42 || type == 0xfe534d42; /* CIFS, SMB2 */
}

static int evli_sys_clone(int out, int in) {
    int fault = EVLOOP_FAULT("ficlone");
    int r = fault ? evli_fail(fault) : ioctl(out, EVLI_FICLONE, in);
    return r < 0 ? -errno : 0;
}

/* Within the file system, which may share the blocks. What files of /proc hold is only known by reading
 * them: they say that they are empty. */
static int evli_sys_copy(int out, int in, int64_t size) {
    uint64_t done;
    while (size > 0) {
        int fault = EVLOOP_FAULT("copy_file_range");
        long n = fault ? evli_fail(fault)
                       : syscall(SYS_copy_file_range, in, NULL, out, NULL, (size_t)1 << 30, 0u);
        if (n == 0)
            return 0;
        if (n < 0 && errno != EINTR)
            break; /* across file systems before Linux 5.19, say: what is done so far counts */
    }
    return evli_fs_copy_through(out, in, -1, UINT64_MAX, &done);
}

#else

static int64_t evli_fs_sendfile(evl_fs_t *req) {
    return evli_fs_sendfile_through(req);
}

EVLI_SPARE int evli_sys_keeps_no_modes(int fd) {
    (void)fd;
    return 0;
}

EVLI_SPARE int evli_sys_clone(int out, int in) {
    (void)out;
    (void)in;
    return EVL_ENOTSUP;
}

EVLI_SPARE int evli_sys_copy(int out, int in, int64_t size) {
    uint64_t done;
    (void)size;
    return evli_fs_copy_through(out, in, -1, UINT64_MAX, &done);
}

#endif

#if defined(__APPLE__)

static int64_t evli_fs_copyfile(evl_fs_t *req) {
    copyfile_flags_t flags = COPYFILE_ALL;
    struct stat from, to;
    if (stat(req->path, &from) == 0 && stat(req->priv.new_path, &to) == 0 &&
        from.st_dev == to.st_dev && from.st_ino == to.st_ino)
        return req->priv.flags & EVL_FS_COPYFILE_EXCL ? (int)EVL_EEXIST : 0;
    if (req->priv.flags & EVL_FS_COPYFILE_EXCL)
        flags |= COPYFILE_EXCL;
    if (req->priv.flags & EVL_FS_COPYFILE_FICLONE)
        flags |= COPYFILE_CLONE;
    if (req->priv.flags & EVL_FS_COPYFILE_FICLONE_FORCE)
        flags |= COPYFILE_CLONE_FORCE;
    return evli_fs_result(copyfile(req->path, req->priv.new_path, NULL, flags));
}

#else

/* Makes of a regular file, which it empties, the same as `in`. */
static int evli_fs_copy_file(int out, int in, const struct EVLI_LARGE(stat) * from, int flags) {
    int err = EVLI_LARGE(ftruncate)(out, 0) < 0 ? -errno : 0;
    if (err == 0 && (flags & (EVL_FS_COPYFILE_FICLONE | EVL_FS_COPYFILE_FICLONE_FORCE))) {
        err = evli_sys_clone(out, in);
        if (err == 0 || (flags & EVL_FS_COPYFILE_FICLONE_FORCE))
            return err;
        err = 0;
    }
    return err != 0 ? err : evli_sys_copy(out, in, from->st_size);
}

/* What is no regular file, as a pipe or a device, is written to and never removed; nor is a file that
 * could not be made ours to write. */
static int64_t evli_fs_copy_to_file(evl_fs_t *req, int out, int in,
                                    const struct EVLI_LARGE(stat) * from) {
    struct EVLI_LARGE(stat) to;
    uint64_t done;
    int err;
    if (EVLI_LARGE(fstat)(out, &to) < 0)
        return -errno;
    if (from->st_dev == to.st_dev && from->st_ino == to.st_ino)
        return 0; /* the same file: nothing to do, and much to lose */
    if (!S_ISREG(to.st_mode))
        return req->priv.flags & EVL_FS_COPYFILE_FICLONE_FORCE
                   ? (int)EVL_ENOTSUP
                   : evli_fs_copy_through(out, in, -1, UINT64_MAX, &done);
    if (fchmod(out, from->st_mode & 07777) < 0 && (errno != EPERM || !evli_sys_keeps_no_modes(out)))
        return -errno;
    err = evli_fs_copy_file(out, in, from, req->priv.flags);
    if (err != 0)
        unlink(req->priv.new_path);
    return err;
}

static int64_t evli_fs_copy_from(evl_fs_t *req, int in) {
    int out, flags = O_WRONLY | O_CREAT | O_CLOEXEC;
    struct EVLI_LARGE(stat) from;
    int64_t result;
    if (EVLI_LARGE(fstat)(in, &from) < 0)
        return -errno;
    if (S_ISDIR(from.st_mode))
        return EVL_EISDIR;
    if (req->priv.flags & EVL_FS_COPYFILE_EXCL)
        flags |= O_EXCL;
    out = EVLI_LARGE(open)(req->priv.new_path, flags, from.st_mode & 07777);
    if (out < 0)
        return -errno;
    result = evli_fs_copy_to_file(req, out, in, &from);
    if (close(out) < 0 && errno != EINTR && errno != EINPROGRESS && result == 0)
        result = -errno; /* what was written is lost, says a server */
    return result;
}

static int64_t evli_fs_copyfile(evl_fs_t *req) {
    int64_t result;
    int in = EVLI_LARGE(open)(req->path, O_RDONLY | O_CLOEXEC);
    if (in < 0)
        return -errno;
    result = evli_fs_copy_from(req, in);
    evli_sys_close(in);
    return result;
}

#endif

/* ---- What a descriptor is ---- */

static evl_handle_type evli_guess_socket(int fd) {
    struct sockaddr_storage name;
    socklen_t name_len = sizeof(name), type_len;
    int type = 0;
    type_len = sizeof(type);
    memset(&name, 0, sizeof(name));
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_len) < 0 ||
        getsockname(fd, (struct sockaddr *)&name, &name_len) < 0)
        return EVL_UNKNOWN_HANDLE;
    if (type == SOCK_STREAM && name.ss_family == AF_UNIX)
        return EVL_NAMED_PIPE;
    if (name.ss_family != AF_INET && name.ss_family != AF_INET6)
        return EVL_UNKNOWN_HANDLE;
    return type == SOCK_STREAM ? EVL_TCP : type == SOCK_DGRAM ? EVL_UDP : EVL_UNKNOWN_HANDLE;
}

EVLOOP_API evl_handle_type evl_guess_handle(evl_file file) {
    struct EVLI_LARGE(stat) about;
    if (file < 0)
        return EVL_UNKNOWN_HANDLE;
    if (isatty(file))
        return EVL_TTY;
    if (EVLI_LARGE(fstat)(file, &about) < 0)
        return EVL_UNKNOWN_HANDLE;
    if (S_ISREG(about.st_mode) || S_ISCHR(about.st_mode))
        return EVL_FILE;
    if (S_ISFIFO(about.st_mode))
        return EVL_NAMED_PIPE;
    return S_ISSOCK(about.st_mode) ? evli_guess_socket(file) : EVL_UNKNOWN_HANDLE;
}

#endif /* !EVLOOP_NO_FS && !_WIN32 */

/* ==== [SECTION] Windows files ==== */

#if !defined(EVLOOP_NO_FS) && defined(_WIN32)

/* Files through Win32, whose error codes the functions beneath return, 0 for success; the request keeps
 * the code, beside what it is translated to. */
static int64_t evli_fs_result(evl_fs_t *req, DWORD error) {
    req->error = (int32_t)error;
    return evl_translate_sys_error((int)error);
}

/* Where the code has not been kept, the likeliest. */
static int evli_fs_system_error(const evl_fs_t *req) {
    static const struct {
        int code;
        int system;
    } likely[] = {
        {EVL_EBADF, ERROR_INVALID_HANDLE},     {EVL_EINVAL, ERROR_INVALID_PARAMETER},
        {EVL_EISDIR, ERROR_INVALID_FUNCTION},  {EVL_ENOENT, ERROR_PATH_NOT_FOUND},
        {EVL_ENOMEM, ERROR_NOT_ENOUGH_MEMORY}, {EVL_ENOTDIR, ERROR_DIRECTORY},
        {EVL_EPERM, ERROR_ACCESS_DENIED},      {EVL_EPIPE, ERROR_BROKEN_PIPE},
    };
    size_t i;
    if (req->result >= 0 || req->error != 0)
        return req->result < 0 ? (int)req->error : 0;
    for (i = 0; i < EVLI_COUNT(likely); i++)
        if (likely[i].code == req->result)
            return likely[i].system;
    for (i = 0; i < EVLI_COUNT(evli_win_errors); i++)
        if (evli_win_errors[i].code == req->result)
            return evli_win_errors[i].system;
    return 0;
}

/* ---- Paths ---- */

#define EVLI_SHARE_ALL (FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE)

/* In UTF-16, on the stack unless it is long. */
typedef struct {
    WCHAR *text;
    size_t length;
    WCHAR *block; /* NULL: text is in brief */
    WCHAR brief[260];
} evli_path_t;

enum {
    EVLI_PATH_ROOM = 3,     /* behind a path: for what finds all in a directory */
    EVLI_PATH_SHORT = 248,  /* from this length on the system may refuse a path without a prefix */
    EVLI_PATH_MOST = 32766, /* what the system's own count of bytes can hold */
    EVLI_PATH_PREFIX_ROOM = 6 /* for the prefix of a path to a server, whose first 2 it replaces */
};

static void evli_path_free(evli_path_t *path) {
    evli_free(path->block);
}

static int evli_is_slash(WCHAR c) {
    return c == L'\\' || c == L'/';
}

static int evli_is_drive(const WCHAR *text) {
    WCHAR letter = (WCHAR)(text[0] | 0x20);
    return letter >= L'a' && letter <= L'z' && text[1] == L':';
}

/* \\?\ and \\.\: the system takes what follows as it is, or for a device. */
static int evli_is_verbatim(const WCHAR *text) {
    return evli_is_slash(text[0]) && evli_is_slash(text[1]) &&
           (text[2] == L'?' || text[2] == L'.') && evli_is_slash(text[3]);
}

/* A relative one counts with the directory that it is relative to. */
static int evli_path_is_long(const WCHAR *text, size_t length) {
    if (length == 0 || (length >= 4 && evli_is_verbatim(text)))
        return 0;
    if (length < EVLI_PATH_SHORT && !evli_is_slash(text[0]) &&
        !(length >= 3 && evli_is_drive(text) && evli_is_slash(text[2])))
        length += GetCurrentDirectoryW(0, NULL);
    return length >= EVLI_PATH_SHORT;
}

/* Makes a long path absolute and free of dots, and gives it the prefix with which the system takes more
 * than 260 characters. */
static DWORD evli_path_lengthen(evli_path_t *path) {
    DWORD size = GetFullPathNameW(path->text, 0, NULL, NULL), length;
    WCHAR *block, *text;
    if (size == 0 || size > EVLI_PATH_MOST)
        return size == 0 ? GetLastError() : (DWORD)ERROR_FILENAME_EXCED_RANGE;
    block = (WCHAR *)evli_malloc((EVLI_PATH_PREFIX_ROOM + size + EVLI_PATH_ROOM) * sizeof(*block));
    if (block == NULL)
        return ERROR_NOT_ENOUGH_MEMORY;
    text = block + EVLI_PATH_PREFIX_ROOM;
    length = GetFullPathNameW(path->text, size, text, NULL);
    if (length == 0 || length >= size) { /* or another thread has changed the directory */
        evli_free(block);
        return length == 0 ? GetLastError() : (DWORD)ERROR_PATH_NOT_FOUND;
    }
    if (evli_is_drive(text)) {
        text -= 4;
        length += 4;
        memcpy(text, L"\\\\?\\", 4 * sizeof(*text));
    } else if (!evli_is_verbatim(text)) {
        text -= 6;
        length += 6;
        memcpy(text, L"\\\\?\\UNC\\", 8 * sizeof(*text));
    }
    evli_path_free(path);
    path->block = block;
    path->text = text;
    path->length = length;
    return 0;
}

/* Takes a path as it is. After an error nothing is to be freed. */
static DWORD evli_path_init_plain(evli_path_t *path, const char *text) {
    size_t length = evli_utf8_to_wide(text, NULL);
    if (length == SIZE_MAX)
        return ERROR_INVALID_PARAMETER;
    if (length > EVLI_PATH_MOST)
        return ERROR_FILENAME_EXCED_RANGE;
    path->text = path->brief;
    path->length = length;
    path->block = NULL;
    if (length + EVLI_PATH_ROOM > EVLI_COUNT(path->brief)) {
        path->block = (WCHAR *)evli_malloc((length + EVLI_PATH_ROOM) * sizeof(WCHAR));
        if (path->block == NULL)
            return ERROR_NOT_ENOUGH_MEMORY;
        path->text = path->block;
    }
    evli_utf8_to_wide(text, path->text);
    path->text[length] = L'\0';
    return 0;
}

static DWORD evli_path_init(evli_path_t *path, const char *text) {
    DWORD error = evli_path_init_plain(path, text);
    if (error == 0 && evli_path_is_long(path->text, path->length)) {
        error = evli_path_lengthen(path);
        if (error != 0)
            evli_path_free(path);
    }
    return error;
}

static int64_t evli_fs_with_wide(evl_fs_t *req, DWORD (*run)(evl_fs_t *req, evli_path_t *path)) {
    evli_path_t path;
    DWORD error = evli_path_init(&path, req->path);
    if (error == 0) {
        error = run(req, &path);
        evli_path_free(&path);
    }
    return evli_fs_result(req, error);
}

static int64_t evli_fs_with_wide2(evl_fs_t *req, DWORD (*run)(evl_fs_t *req, evli_path_t *path,
                                                              evli_path_t *new_path)) {
    evli_path_t path, new_path;
    DWORD error = evli_path_init(&path, req->path);
    if (error == 0) {
        error = evli_path_init(&new_path, req->priv.new_path);
        if (error == 0) {
            error = run(req, &path, &new_path);
            evli_path_free(&new_path);
        }
        evli_path_free(&path);
    }
    return evli_fs_result(req, error);
}

/* Opens what there is for asking and setting, which no other open stands in the way of. */
static DWORD evli_win_open(const WCHAR *path, DWORD access, int link, HANDLE *file) {
    DWORD flags = FILE_FLAG_BACKUP_SEMANTICS | (link ? FILE_FLAG_OPEN_REPARSE_POINT : 0);
    *file = CreateFileW(path, access, EVLI_SHARE_ALL, NULL, OPEN_EXISTING, flags, NULL);
    return *file == INVALID_HANDLE_VALUE ? GetLastError() : 0;
}

/* Opens the file of a handle once more, with other rights. */
static DWORD evli_win_reopen(HANDLE file, DWORD access, HANDLE *again) {
    DWORD flags = FILE_FLAG_BACKUP_SEMANTICS | FILE_FLAG_OPEN_REPARSE_POINT;
    *again = ReOpenFile(file, access, EVLI_SHARE_ALL, flags);
    return *again == INVALID_HANDLE_VALUE ? GetLastError() : 0;
}

/* ---- Open and close ---- */

/* What CreateFile wants to know. */
typedef struct {
    DWORD access;
    DWORD share;
    DWORD disposition;
    DWORD attributes;
    int empty; /* afterwards: the right to append is not enough to truncate */
} evli_open_t;

static DWORD evli_open_access(int flags) {
    DWORD access = 0;
    switch (flags & (EVL_FS_O_WRONLY | EVL_FS_O_RDWR)) {
    case EVL_FS_O_RDONLY:
        access = FILE_GENERIC_READ;
        break;
    case EVL_FS_O_WRONLY:
        access = FILE_GENERIC_WRITE;
        break;
    case EVL_FS_O_RDWR:
        access = FILE_GENERIC_READ | FILE_GENERIC_WRITE;
        break;
    default:
        return 0;
    }
    if (flags & EVL_FS_O_APPEND) /* with this right alone all goes to the end, at whatever offset */
        access = (access & ~(DWORD)FILE_WRITE_DATA) | FILE_APPEND_DATA;
    if (flags & EVL_FS_O_TEMPORARY)
        access |= DELETE;
    return access;
}

static DWORD evli_open_disposition(int flags) {
    int create = flags & EVL_FS_O_CREAT, empty = flags & EVL_FS_O_TRUNC;
    if (create && (flags & EVL_FS_O_EXCL))
        return CREATE_NEW;
    if (create)
        return empty ? CREATE_ALWAYS : OPEN_ALWAYS;
    return empty ? TRUNCATE_EXISTING : OPEN_EXISTING;
}

static DWORD evli_open_attributes(int flags, int mode) {
    const int owner_writes = 0200;
    DWORD attributes = FILE_ATTRIBUTE_NORMAL | FILE_FLAG_BACKUP_SEMANTICS; /* directories as well */
    if ((flags & EVL_FS_O_CREAT) && !(mode & owner_writes))
        attributes |= FILE_ATTRIBUTE_READONLY;
    if (flags & (EVL_FS_O_TEMPORARY | EVL_FS_O_SHORT_LIVED))
        attributes |= FILE_ATTRIBUTE_TEMPORARY;
    if (flags & EVL_FS_O_TEMPORARY)
        attributes |= FILE_FLAG_DELETE_ON_CLOSE;
    if (flags & EVL_FS_O_SEQUENTIAL)
        attributes |= FILE_FLAG_SEQUENTIAL_SCAN;
    if (flags & EVL_FS_O_RANDOM)
        attributes |= FILE_FLAG_RANDOM_ACCESS;
    if (flags & EVL_FS_O_DIRECT)
        attributes |= FILE_FLAG_NO_BUFFERING;
    if (flags & (EVL_FS_O_DSYNC | EVL_FS_O_SYNC))
        attributes |= FILE_FLAG_WRITE_THROUGH;
    return attributes;
}

static int evli_has_both(int flags, int one, int other) {
    return (flags & one) && (flags & other);
}

static DWORD evli_open_flags(int flags, int mode, evli_open_t *how) {
    how->access = evli_open_access(flags);
    if (how->access == 0 || evli_has_both(flags, EVL_FS_O_SEQUENTIAL, EVL_FS_O_RANDOM) ||
        evli_has_both(flags, EVL_FS_O_APPEND, EVL_FS_O_DIRECT))
        return ERROR_INVALID_PARAMETER;
    if (flags & EVL_FS_O_DIRECT) /* does not go with the right to append; to write is enough */
        how->access &= ~(DWORD)FILE_APPEND_DATA;
    how->share = flags & EVL_FS_O_EXLOCK ? 0 : EVLI_SHARE_ALL;
    how->disposition = evli_open_disposition(flags);
    how->empty = how->disposition == TRUNCATE_EXISTING && (flags & EVL_FS_O_APPEND);
    if (how->empty)
        how->disposition = OPEN_EXISTING;
    else if (how->disposition == TRUNCATE_EXISTING && (how->access & FILE_WRITE_DATA))
        how->access |= GENERIC_WRITE; /* the same rights, but by the name that is asked for then */
    how->attributes = evli_open_attributes(flags, mode);
    return 0;
}

/* Makes a descriptor of a handle, which it closes when there are none left. */
static DWORD evli_crt_put(HANDLE file, int flags, int *fd) {
    *fd = _open_osfhandle((intptr_t)file, flags | _O_BINARY | _O_NOINHERIT);
    if (*fd >= 0)
        return 0;
    CloseHandle(file);
    return ERROR_TOO_MANY_OPEN_FILES;
}

/* Cuts off all of a file, by a handle that has the right to. */
static DWORD evli_open_empty(HANDLE file) {
    FILE_END_OF_FILE_INFO end;
    HANDLE again;
    DWORD error = evli_win_reopen(file, FILE_WRITE_DATA, &again);
    if (error != 0)
        return error;
    end.EndOfFile.QuadPart = 0;
    if (!SetFileInformationByHandle(again, FileEndOfFileInfo, &end, sizeof(end)))
        error = GetLastError();
    CloseHandle(again);
    return error;
}

static DWORD evli_open_path(evl_fs_t *req, evli_path_t *path) {
    evli_open_t how;
    HANDLE file;
    DWORD error = evli_open_flags(req->priv.flags, req->priv.mode, &how);
    if (error != 0)
        return error;
    file =
        CreateFileW(path->text, how.access, how.share, NULL, how.disposition, how.attributes, NULL);
    if (file == INVALID_HANDLE_VALUE)
        return GetLastError();
    error = how.empty ? evli_open_empty(file) : 0;
    if (error != 0) {
        CloseHandle(file);
        return error;
    }
    return evli_crt_put(file, req->priv.flags & EVL_FS_O_APPEND, &req->priv.file);
}

/* Where a file would do that there already is, "file exists" is said of a directory. */
static int64_t evli_fs_open(evl_fs_t *req) {
    int64_t result = evli_fs_with_wide(req, evli_open_path);
    if (req->error == ERROR_FILE_EXISTS && (req->priv.flags & EVL_FS_O_CREAT) &&
        !(req->priv.flags & EVL_FS_O_EXCL))
        return EVL_EISDIR;
    return result < 0 ? result : req->priv.file;
}

/* Standard input and output stay open, as libuv has it. */
static int64_t evli_fs_close(evl_fs_t *req) {
    if (req->priv.file >= 0 && req->priv.file <= 2)
        return 0;
    return req->priv.file < 0 ? (int)EVL_EBADF : evli_crt_close(req->priv.file);
}

static DWORD evli_fs_handle(const evl_fs_t *req, HANDLE *file) {
    *file = evli_crt_get(req->priv.file);
    return *file == INVALID_HANDLE_VALUE ? (DWORD)ERROR_INVALID_HANDLE : 0;
}

/* ---- Reading and writing ---- */

static BOOL evli_win_move(HANDLE file, int writes, char *base, DWORD len, DWORD *n,
                          OVERLAPPED *at) {
    return writes ? WriteFile(file, base, len, n, at) : ReadFile(file, base, len, n, at);
}

/* Moves a piece in one call. The end of a file, or of a pipe, is no error. */
static DWORD evli_win_move_piece(HANDLE file, int writes, char *base, DWORD len, int64_t offset,
                                 DWORD *n) {
    OVERLAPPED at;
    BOOL ok;
    DWORD error;
    *n = 0;
    if (offset < 0) {
        ok = evli_win_move(file, writes, base, len, n, NULL);
    } else {
        memset(&at, 0, sizeof(at));
        at.Offset = (DWORD)offset;
        at.OffsetHigh = (DWORD)(offset >> 32);
        ok = evli_win_move(file, writes, base, len, n, &at);
        if (!ok && GetLastError() == ERROR_IO_PENDING)
            ok = GetOverlappedResult(file, &at, n, TRUE);
    }
    if (ok || *n > 0) /* of a message that is longer there is a part */
        return 0;
    error = GetLastError();
    return !writes && (error == ERROR_HANDLE_EOF || error == ERROR_BROKEN_PIPE) ? 0 : error;
}

/* Moves one buffer after the other, as long as all of it is moved. */
static DWORD evli_win_move_all(HANDLE file, int writes, const evl_buf_t *bufs, size_t nbufs,
                               int64_t offset, int64_t *done) {
    const DWORD most = 0x7ffff000; /* in one call */
    size_t i;
    for (i = 0; i < nbufs; i++) {
        DWORD at, n, want;
        for (at = 0; at < bufs[i].len; at += n) {
            DWORD error;
            want = bufs[i].len - at < most ? (DWORD)bufs[i].len - at : most;
            error = evli_win_move_piece(file, writes, bufs[i].base + at, want,
                                        offset < 0 ? -1 : offset + *done, &n);
            *done += n;
            if (error != 0 || n < want)
                return error;
        }
    }
    return 0;
}

/* The file's own position moves with an offset as well: it is put back. What is no file on a disk could
 * wait for the second buffer while the first is full. */
static DWORD evli_win_move_bufs(HANDLE file, int writes, const evl_buf_t *bufs, size_t nbufs,
                                int64_t offset, int64_t *done) {
    LARGE_INTEGER position, zero;
    int restore;
    DWORD error;
    zero.QuadPart = 0;
    if (nbufs > 1 && GetFileType(file) != FILE_TYPE_DISK)
        nbufs = 1;
    restore = offset >= 0 && SetFilePointerEx(file, zero, &position, FILE_CURRENT);
    error = evli_win_move_all(file, writes, bufs, nbufs, offset, done);
    if (restore)
        SetFilePointerEx(file, position, NULL, FILE_BEGIN);
    return error;
}

static int64_t evli_win_transfer(evl_file file, int writes, const evl_buf_t *bufs, size_t nbufs,
                                 int64_t offset, size_t most, DWORD error) {
    HANDLE handle = evli_crt_get(file);
    int64_t done = 0;
    evl_buf_t first = bufs[0];
    if (most < first.len) {
        first.len = (evli_len_t)most;
        bufs = &first;
        nbufs = 1;
    }
    if (handle == INVALID_HANDLE_VALUE)
        return EVL_EBADF;
    if (error == 0)
        error = evli_win_move_bufs(handle, writes, bufs, nbufs, offset, &done);
    if (done > 0 || (error == 0 && (!writes || bufs[0].len == 0)))
        return done;
    switch (error) {
    case 0: /* a pipe that takes nothing now */
        return EVL_EAGAIN;
    case ERROR_ACCESS_DENIED: /* not opened for that */
        return EVL_EBADF;
    case ERROR_NO_DATA:
        return writes ? EVL_EPIPE : EVL_EAGAIN;
    case ERROR_BROKEN_PIPE:
        return EVL_EPIPE;
    default:
        return evl_translate_sys_error((int)error);
    }
}

/* A fault that passes stands for an interruption, which Windows has none of. */
static int64_t evli_sys_file_read(evl_file file, const evl_buf_t *bufs, size_t nbufs,
                                  int64_t offset) {
    size_t most = EVLOOP_SHORT("read", bufs[0].len);
    int fault;
    do
        fault = EVLOOP_FAULT("read");
    while (fault == WSAEWOULDBLOCK);
    return evli_win_transfer(file, 0, bufs, nbufs, offset, most, (DWORD)fault);
}

static int64_t evli_sys_file_write(evl_file file, const evl_buf_t *bufs, size_t nbufs,
                                   int64_t offset) {
    size_t most = EVLOOP_SHORT("write", bufs[0].len);
    int fault;
    do
        fault = EVLOOP_FAULT("write");
    while (fault == WSAEWOULDBLOCK);
    return evli_win_transfer(file, 1, bufs, nbufs, offset, most, (DWORD)fault);
}

static void evli_sys_file_back(evl_file file, int64_t distance) {
    LARGE_INTEGER by;
    by.QuadPart = -distance;
    SetFilePointerEx(evli_crt_get(file), by, NULL, FILE_CURRENT);
}

/* Windows does not say when a pipe takes something again. */
static int evli_sys_file_wait(evl_file file) {
    (void)file;
    Sleep(1);
    return 0;
}

static int64_t evli_fs_fsync(evl_fs_t *req) {
    HANDLE file;
    DWORD error = evli_fs_handle(req, &file);
    if (error == 0 && !FlushFileBuffers(file))
        error = GetLastError();
    return evli_fs_result(req, error);
}

static int64_t evli_fs_fdatasync(evl_fs_t *req) {
    return evli_fs_fsync(req);
}

static int64_t evli_fs_ftruncate(evl_fs_t *req) {
    FILE_END_OF_FILE_INFO end;
    HANDLE file;
    DWORD error = evli_fs_handle(req, &file);
    end.EndOfFile.QuadPart = req->priv.args.span.offset;
    if (error == 0 && end.EndOfFile.QuadPart < 0)
        error = ERROR_INVALID_PARAMETER;
    if (error == 0 && !SetFileInformationByHandle(file, FileEndOfFileInfo, &end, sizeof(end)))
        error = GetLastError();
    return evli_fs_result(req, error);
}

/* ---- Links ---- */

/* What a link holds, as the system gives it. Places and sizes are in bytes; those of a symlink count
 * from behind its flags. */
typedef struct {
    ULONG tag;
    USHORT size; /* of what follows `reserved` */
    USHORT reserved;
    USHORT target_at, target_size;
    USHORT shown_at, shown_size;
    WCHAR text[1];
} evli_reparse_t;

#define EVLI_TAG_JUNCTION   0xA0000003u
#define EVLI_TAG_SYMLINK    0xA000000Cu
#define EVLI_TAG_LX_SYMLINK 0xA000001Du /* made by Linux programs: its target is UTF-8 */
#define EVLI_TAG_APP_LINK   0x8000001Bu /* to a program out of the system's store */

enum {
    EVLI_LINK_ROOM = 16384, /* more there is never */
    EVLI_LINK_HEAD = 8,     /* up to target_at */
    EVLI_LINK_TEXT_AT = 16
};

/* Finds the target in a junction or a symlink. The kernel's \??\ is taken off, before a drive or a
 * server: with it, the target would mean nothing to programs. */
static DWORD evli_link_plain(evli_reparse_t *link, WCHAR **text, size_t *length) {
    size_t flags = link->tag == EVLI_TAG_SYMLINK ? 2 : 0; /* in units of the text */
    size_t start = flags + link->target_at / 2u, n = link->target_size / 2u;
    WCHAR *at = link->text + start;
    int kernel, drive, server;
    if (EVLI_LINK_TEXT_AT + 2 * (start + n) > EVLI_LINK_HEAD + (size_t)link->size)
        return ERROR_INVALID_REPARSE_DATA;
    kernel = n >= 4 && memcmp(at, L"\\??\\", 4 * sizeof(*at)) == 0;
    drive = kernel && n >= 6 && evli_is_drive(at + 4) && (n == 6 || at[6] == L'\\');
    server = kernel && n >= 8 && (at[4] | 0x20) == L'u' && (at[5] | 0x20) == L'n' &&
             (at[6] | 0x20) == L'c' && at[7] == L'\\';
    if (!drive && link->tag == EVLI_TAG_JUNCTION)
        return ERROR_SYMLINK_NOT_SUPPORTED; /* a volume that is mounted here */
    if (server)
        at[6] = L'\\';
    *text = at + (drive ? 4 : server ? 6 : 0);
    *length = n - (drive ? 4u : server ? 6u : 0u);
    return 0;
}

/* The third of its strings is the program, behind a version. */
static DWORD evli_link_app(evli_reparse_t *link, WCHAR **text, size_t *length) {
    WCHAR *at = (WCHAR *)(void *)((char *)link + EVLI_LINK_HEAD + sizeof(ULONG));
    WCHAR *end = (WCHAR *)(void *)((char *)link + EVLI_LINK_HEAD + link->size / 2 * 2);
    int i;
    for (i = 0; i < 3; i++) {
        *text = at;
        while (at < end && *at != L'\0')
            at++;
        *length = (size_t)(at - *text);
        if (at >= end || *length == 0)
            return ERROR_SYMLINK_NOT_SUPPORTED;
        at++;
    }
    if (*length < 3 || !evli_is_drive(*text) || (*text)[2] != L'\\')
        return ERROR_SYMLINK_NOT_SUPPORTED;
    return 0;
}

/* Makes a text of it, of which *size tells the bytes; target NULL: only that. */
static DWORD evli_reparse_text(const WCHAR *wide, size_t length, char **target, size_t *size) {
    *size = evli_wide_to_utf8(wide, length, NULL);
    if (target == NULL)
        return 0;
    *target = (char *)evli_malloc(*size + 1);
    if (*target == NULL)
        return ERROR_NOT_ENOUGH_MEMORY;
    evli_wide_to_utf8(wide, length, *target);
    (*target)[*size] = '\0';
    return 0;
}

static DWORD evli_link_lx(const evli_reparse_t *link, char **target, size_t *size) {
    const size_t version = sizeof(ULONG);
    if (link->size < version)
        return ERROR_INVALID_REPARSE_DATA;
    *size = link->size - version;
    if (target == NULL)
        return 0;
    *target = (char *)evli_malloc(*size + 1);
    if (*target == NULL)
        return ERROR_NOT_ENOUGH_MEMORY;
    memcpy(*target, (const char *)link + EVLI_LINK_HEAD + version, *size);
    (*target)[*size] = '\0';
    return 0;
}

static DWORD evli_link_parse(evli_reparse_t *link, char **target, size_t *size) {
    WCHAR *text;
    size_t length;
    DWORD error;
    switch (link->tag) {
    case EVLI_TAG_SYMLINK:
    case EVLI_TAG_JUNCTION:
        error = evli_link_plain(link, &text, &length);
        break;
    case EVLI_TAG_APP_LINK:
        error = evli_link_app(link, &text, &length);
        break;
    case EVLI_TAG_LX_SYMLINK:
        return evli_link_lx(link, target, size);
    default:
        return ERROR_SYMLINK_NOT_SUPPORTED;
    }
    return error != 0 ? error : evli_reparse_text(text, length, target, size);
}

/* Where a link leads. Other reparse points are no links: ERROR_SYMLINK_NOT_SUPPORTED. */
static DWORD evli_link_read(HANDLE file, char **target, size_t *size) {
    evli_reparse_t *link = (evli_reparse_t *)evli_calloc(1, EVLI_LINK_ROOM);
    DWORD n, error;
    if (link == NULL)
        return ERROR_NOT_ENOUGH_MEMORY;
    if (DeviceIoControl(file, FSCTL_GET_REPARSE_POINT, NULL, 0, link, EVLI_LINK_ROOM, &n, NULL))
        error = n < EVLI_LINK_HEAD || link->size > n - EVLI_LINK_HEAD
                    ? (DWORD)ERROR_INVALID_REPARSE_DATA
                    : evli_link_parse(link, target, size);
    else
        error = GetLastError();
    evli_free(link);
    return error;
}

static DWORD evli_readlink_path(evl_fs_t *req, evli_path_t *path) {
    char *target = NULL;
    size_t size;
    HANDLE file;
    DWORD error = evli_win_open(path->text, 0, 1, &file);
    if (error != 0)
        return error;
    error = evli_link_read(file, &target, &size);
    CloseHandle(file);
    req->ptr = target;
    return error;
}

static int64_t evli_fs_readlink(evl_fs_t *req) {
    int64_t result = evli_fs_with_wide(req, evli_readlink_path);
    return req->error == ERROR_NOT_A_REPARSE_POINT ? (int)EVL_EINVAL : result;
}

/* Writes a junction's target, which is absolute and has no prefix, twice: for the kernel with its own
 * prefix, and for people. */
static size_t evli_junction_fill(evli_reparse_t *link, const WCHAR *target, size_t length) {
    WCHAR *at = link->text;
    size_t prefix = 4, size = length * sizeof(*at);
    link->tag = EVLI_TAG_JUNCTION;
    link->target_at = 0;
    link->target_size = (USHORT)(prefix * sizeof(*at) + size);
    memcpy(at, L"\\??\\", prefix * sizeof(*at));
    memcpy(at + prefix, target, size);
    link->shown_at = (USHORT)(link->target_size + sizeof(*at));
    link->shown_size = (USHORT)size;
    memcpy(at + prefix + length + 1, target, size);
    size = EVLI_LINK_TEXT_AT + (prefix + 2 * length + 2) * sizeof(*at);
    link->size = (USHORT)(size - EVLI_LINK_HEAD);
    return size;
}

static DWORD evli_junction_set(const WCHAR *path, const WCHAR *target, size_t length) {
    evli_reparse_t *link;
    HANDLE file;
    DWORD n, error;
    if (EVLI_LINK_TEXT_AT + (2 * length + 6) * sizeof(*target) > EVLI_LINK_ROOM)
        return ERROR_FILENAME_EXCED_RANGE;
    link = (evli_reparse_t *)evli_calloc(1, EVLI_LINK_ROOM);
    if (link == NULL)
        return ERROR_NOT_ENOUGH_MEMORY;
    error = evli_win_open(path, GENERIC_WRITE, 1, &file);
    if (error == 0) {
        size_t size = evli_junction_fill(link, target, length);
        if (!DeviceIoControl(file, FSCTL_SET_REPARSE_POINT, link, (DWORD)size, NULL, 0, &n, NULL))
            error = GetLastError();
        CloseHandle(file);
    }
    evli_free(link);
    return error;
}

static DWORD evli_junction_make(const WCHAR *path, const WCHAR *target, size_t length) {
    DWORD error;
    if (!CreateDirectoryW(path, NULL))
        return GetLastError();
    error = evli_junction_set(path, target, length);
    if (error != 0)
        RemoveDirectoryW(path);
    return error;
}

/* The kernel reads a junction without the care that Win32 takes of paths, so that is taken here. */
static DWORD evli_junction_path(evl_fs_t *req, evli_path_t *new_path) {
    evli_path_t target;
    DWORD error = evli_path_init_plain(&target, req->path);
    if (error != 0)
        return error;
    if (target.length >= 4 && memcmp(target.text, L"\\\\?\\", 4 * sizeof(WCHAR)) == 0) {
        error = evli_junction_make(new_path->text, target.text + 4, target.length - 4);
    } else if (target.length < 3 || !evli_is_drive(target.text) || !evli_is_slash(target.text[2])) {
        error = ERROR_INVALID_PARAMETER;
    } else {
        error = evli_path_lengthen(&target);
        if (error == 0)
            error = evli_junction_make(new_path->text, target.text + 4, target.length - 4);
    }
    evli_path_free(&target);
    return error;
}

/* A target is kept as it is given, but for its slashes, which nobody else turns. */
static DWORD evli_symlink_path(evl_fs_t *req, evli_path_t *new_path) {
    const DWORD unprivileged = 2; /* since Windows 10 1703, for developers; refused before */
    DWORD flags = req->priv.flags & EVL_FS_SYMLINK_DIR ? SYMBOLIC_LINK_FLAG_DIRECTORY : 0;
    evli_path_t target;
    size_t i;
    DWORD error = evli_path_init_plain(&target, req->path);
    if (error != 0)
        return error;
    for (i = 0; i < target.length; i++)
        if (target.text[i] == L'/')
            target.text[i] = L'\\';
    if (!CreateSymbolicLinkW(new_path->text, target.text, flags | unprivileged))
        error = GetLastError();
    if (error == ERROR_INVALID_PARAMETER)
        error = CreateSymbolicLinkW(new_path->text, target.text, flags) ? 0 : GetLastError();
    evli_path_free(&target);
    return error;
}

static int64_t evli_fs_symlink(evl_fs_t *req) {
    int junction = req->priv.flags & EVL_FS_SYMLINK_JUNCTION;
    evli_path_t new_path;
    DWORD error = evli_path_init(&new_path, req->priv.new_path);
    if (error == 0) {
        error = junction ? evli_junction_path(req, &new_path) : evli_symlink_path(req, &new_path);
        evli_path_free(&new_path);
    }
    return evli_fs_result(req, error);
}

static DWORD evli_link_paths(evl_fs_t *req, evli_path_t *path, evli_path_t *new_path) {
    (void)req;
    return CreateHardLinkW(new_path->text, path->text, NULL) ? 0 : GetLastError();
}

static int64_t evli_fs_link(evl_fs_t *req) {
    return evli_fs_with_wide2(req, evli_link_paths);
}

/* ---- What there is to know of a file ---- */

enum {
    EVLI_MODE_PIPE = 0010000,
    EVLI_MODE_CHAR = 0020000,
    EVLI_MODE_DIR = 0040000,
    EVLI_MODE_FILE = 0100000,
    EVLI_MODE_LINK = 0120000
};

#define EVLI_FILETIME_1970 INT64_C(116444736000000000) /* Windows counts 100 ns since 1601 */

static int64_t evli_filetime(const FILETIME *time) {
    return (int64_t)((uint64_t)time->dwHighDateTime << 32 | time->dwLowDateTime);
}

static evl_timespec_t evli_timespec(int64_t filetime) {
    const int64_t per_second = 10000000;
    int64_t ticks = filetime - EVLI_FILETIME_1970, part = ticks % per_second;
    evl_timespec_t time;
    time.tv_sec = (long)(ticks / per_second - (part < 0));
    time.tv_nsec = (long)(part < 0 ? part + per_second : part) * 100;
    return time;
}

static uint64_t evli_stat_mode(DWORD attributes, int link) {
    uint64_t type = link                                    ? EVLI_MODE_LINK
                    : attributes & FILE_ATTRIBUTE_DIRECTORY ? EVLI_MODE_DIR
                                                            : EVLI_MODE_FILE;
    return type | (attributes & FILE_ATTRIBUTE_READONLY ? 0444u : 0666u);
}

/* What is no file has no more to tell. */
static void evli_stat_device(evl_stat_t *to, uint64_t mode, uint64_t device) {
    memset(to, 0, sizeof(*to));
    to->st_mode = mode;
    to->st_nlink = 1;
    to->st_rdev = device << 16;
    to->st_blksize = 4096;
}

/* Of a link itself, or else of what it leads to. */
static DWORD evli_stat_handle(HANDLE file, int link, evl_stat_t *to) {
    BY_HANDLE_FILE_INFORMATION about;
    FILE_BASIC_INFO basic;
    FILE_STANDARD_INFO standard;
    size_t size = 0;
    DWORD error;
    if (!GetFileInformationByHandle(file, &about)) {
        if (GetFileType(file) == FILE_TYPE_CHAR) {
            evli_stat_device(to, EVLI_MODE_CHAR | 0666, FILE_DEVICE_NULL);
            return 0;
        }
        memset(&about, 0, sizeof(about)); /* some file systems have nothing to tell of a volume */
    }
    if (!GetFileInformationByHandleEx(file, FileBasicInfo, &basic, sizeof(basic)) ||
        !GetFileInformationByHandleEx(file, FileStandardInfo, &standard, sizeof(standard)))
        return GetLastError();
    link = link && (basic.FileAttributes & FILE_ATTRIBUTE_REPARSE_POINT);
    error = link ? evli_link_read(file, NULL, &size) : 0;
    if (error != 0)
        return error;
    memset(to, 0, sizeof(*to));
    to->st_dev = about.dwVolumeSerialNumber;
    to->st_mode = evli_stat_mode(basic.FileAttributes, link);
    to->st_nlink = standard.NumberOfLinks;
    to->st_ino = (uint64_t)about.nFileIndexHigh << 32 | about.nFileIndexLow;
    to->st_size = link ? size : standard.Directory ? 0 : (uint64_t)standard.EndOfFile.QuadPart;
    to->st_blksize = 4096;
    to->st_blocks = (uint64_t)standard.AllocationSize.QuadPart / 512;
    to->st_atim = evli_timespec(basic.LastAccessTime.QuadPart);
    to->st_mtim = evli_timespec(basic.LastWriteTime.QuadPart);
    to->st_ctim = evli_timespec(basic.ChangeTime.QuadPart);
    to->st_birthtim = evli_timespec(basic.CreationTime.QuadPart);
    return 0;
}

/* What the directory tells of a file that may not be opened, such as the one for swapping. */
static DWORD evli_stat_listed(const WCHAR *path, int link, evl_stat_t *to, DWORD refused) {
    WIN32_FIND_DATAW found;
    HANDLE search;
    if (wcspbrk(path + (evli_is_verbatim(path) ? 4 : 0), L"*?<>\"") != NULL)
        return refused;
    search = FindFirstFileW(path, &found);
    if (search == INVALID_HANDLE_VALUE)
        return refused;
    FindClose(search);
    if (found.dwFileAttributes & FILE_ATTRIBUTE_REPARSE_POINT) {
        if (!link ||
            (found.dwReserved0 != EVLI_TAG_SYMLINK && found.dwReserved0 != EVLI_TAG_JUNCTION))
            return refused;
    } else {
        link = 0;
    }
    memset(to, 0, sizeof(*to));
    to->st_mode = evli_stat_mode(found.dwFileAttributes, link);
    to->st_nlink = 1;
    if (!link && !(found.dwFileAttributes & FILE_ATTRIBUTE_DIRECTORY))
        to->st_size = (uint64_t)found.nFileSizeHigh << 32 | found.nFileSizeLow;
    to->st_blksize = 4096;
    to->st_blocks = (to->st_size + 511) / 512;
    to->st_atim = evli_timespec(evli_filetime(&found.ftLastAccessTime));
    to->st_mtim = evli_timespec(evli_filetime(&found.ftLastWriteTime));
    to->st_birthtim = evli_timespec(evli_filetime(&found.ftCreationTime));
    to->st_ctim = to->st_mtim;
    return 0;
}

static DWORD evli_stat_open(const WCHAR *path, int link, evl_stat_t *to) {
    HANDLE file;
    DWORD error = evli_win_open(path, FILE_READ_ATTRIBUTES, link, &file);
    if (error == ERROR_ACCESS_DENIED || error == ERROR_SHARING_VIOLATION)
        return evli_stat_listed(path, link, to, error);
    if (error == 0) {
        error = evli_stat_handle(file, link, to);
        CloseHandle(file);
    }
    return error;
}

/* A reparse point that is no link is what it leads to. A slash at the end says nothing, as libuv has
 * it. */
static DWORD evli_stat_path(evl_fs_t *req, evli_path_t *path) {
    int link = req->fs_type == EVL_FS_LSTAT;
    size_t last = path->length > 1 ? path->length - 1 : 0;
    DWORD error;
    if (last > 0 && evli_is_slash(path->text[last]) && path->text[last - 1] != L':')
        path->text[last] = L'\0';
    error = evli_stat_open(path->text, link, &req->statbuf);
    if (link && (error == ERROR_SYMLINK_NOT_SUPPORTED || error == ERROR_NOT_A_REPARSE_POINT))
        error = evli_stat_open(path->text, 0, &req->statbuf);
    return error;
}

/* EVL_UNKNOWN_HANDLE: it is none. */
static evl_handle_type evli_guess_win(HANDLE file) {
    DWORD mode;
    if (file == INVALID_HANDLE_VALUE)
        return EVL_UNKNOWN_HANDLE;
    switch (GetFileType(file)) {
    case FILE_TYPE_CHAR:
        return GetConsoleMode(file, &mode) ? EVL_TTY : EVL_FILE;
    case FILE_TYPE_PIPE:
        return EVL_NAMED_PIPE;
    case FILE_TYPE_DISK:
        return EVL_FILE;
    default:
        return EVL_UNKNOWN_HANDLE;
    }
}

EVLOOP_API evl_handle_type evl_guess_handle(evl_file file) {
    return evli_guess_win(evli_crt_get(file));
}

static DWORD evli_stat_file(HANDLE file, evl_stat_t *to) {
    switch (evli_guess_win(file)) {
    case EVL_FILE:
        return evli_stat_handle(file, 0, to);
    case EVL_TTY:
        evli_stat_device(to, EVLI_MODE_CHAR, FILE_DEVICE_CONSOLE);
        break;
    case EVL_NAMED_PIPE:
        evli_stat_device(to, EVLI_MODE_PIPE, FILE_DEVICE_NAMED_PIPE);
        break;
    default:
        return ERROR_INVALID_HANDLE;
    }
    to->st_ino = (uint64_t)(uintptr_t)file;
    return 0;
}

static int64_t evli_fs_stat(evl_fs_t *req) {
    int64_t result;
    HANDLE file;
    if (req->fs_type == EVL_FS_FSTAT) {
        DWORD error = evli_fs_handle(req, &file);
        result = evli_fs_result(req, error != 0 ? error : evli_stat_file(file, &req->statbuf));
    } else {
        result = evli_fs_with_wide(req, evli_stat_path);
    }
    if (result == 0)
        req->ptr = &req->statbuf;
    return result;
}

/* ---- Access, mode, owner, times ---- */

/* Whether a link leads to something. */
static DWORD evli_access_target(const WCHAR *path) {
    HANDLE file;
    DWORD error = evli_win_open(path, FILE_READ_ATTRIBUTES, 0, &file);
    if (error == 0)
        CloseHandle(file);
    return error == ERROR_FILE_NOT_FOUND || error == ERROR_PATH_NOT_FOUND ||
                   error == ERROR_CANT_RESOLVE_FILENAME
               ? error
               : 0;
}

static DWORD evli_access_path(evl_fs_t *req, evli_path_t *path) {
    const int writes = 2; /* W_OK */
    DWORD attributes = GetFileAttributesW(path->text);
    if (attributes == INVALID_FILE_ATTRIBUTES)
        return GetLastError();
    if ((req->priv.mode & writes) && (attributes & FILE_ATTRIBUTE_READONLY) &&
        !(attributes & FILE_ATTRIBUTE_DIRECTORY)) /* of which the attribute means something else */
        return ERROR_ACCESS_DENIED;
    return attributes & FILE_ATTRIBUTE_REPARSE_POINT ? evli_access_target(path->text) : 0;
}

static int64_t evli_fs_access(evl_fs_t *req) {
    return evli_fs_with_wide(req, evli_access_path);
}

static DWORD evli_chmod_handle(HANDLE file, int mode) {
    const int owner_writes = 0200;
    FILE_BASIC_INFO basic;
    DWORD attributes;
    if (!GetFileInformationByHandleEx(file, FileBasicInfo, &basic, sizeof(basic)))
        return GetLastError();
    attributes = basic.FileAttributes & ~(DWORD)(FILE_ATTRIBUTE_READONLY | FILE_ATTRIBUTE_NORMAL);
    if (!(mode & owner_writes))
        attributes |= FILE_ATTRIBUTE_READONLY;
    memset(&basic, 0, sizeof(basic)); /* 0: as it is */
    basic.FileAttributes = attributes != 0 ? attributes : FILE_ATTRIBUTE_NORMAL;
    return SetFileInformationByHandle(file, FileBasicInfo, &basic, sizeof(basic)) ? 0
                                                                                  : GetLastError();
}

static DWORD evli_chmod_path(evl_fs_t *req, evli_path_t *path) {
    HANDLE file;
    DWORD error = evli_win_open(path->text, FILE_READ_ATTRIBUTES | FILE_WRITE_ATTRIBUTES, 0, &file);
    if (error == 0) {
        error = evli_chmod_handle(file, req->priv.mode);
        CloseHandle(file);
    }
    return error;
}

static int64_t evli_fs_chmod(evl_fs_t *req) {
    return evli_fs_with_wide(req, evli_chmod_path);
}

static int64_t evli_fs_fchmod(evl_fs_t *req) {
    HANDLE file, again;
    DWORD error = evli_fs_handle(req, &file);
    if (error == 0)
        error = evli_win_reopen(file, FILE_READ_ATTRIBUTES | FILE_WRITE_ATTRIBUTES, &again);
    if (error == 0) {
        error = evli_chmod_handle(again, req->priv.mode);
        CloseHandle(again);
    }
    return evli_fs_result(req, error);
}

/* Files have no owner by number: nothing is done, and nothing looked at. */
static int64_t evli_fs_chown(evl_fs_t *req) {
    (void)req;
    return 0;
}

static int64_t evli_fs_fchown(evl_fs_t *req) {
    return evli_fs_chown(req);
}

static int64_t evli_fs_lchown(evl_fs_t *req) {
    return evli_fs_chown(req);
}

/* Returns where the time is, NULL for one that stays. */
static const FILETIME *evli_utime(int64_t us, FILETIME *time, DWORD *error) {
    const int64_t most = INT64_MAX / 10 - EVLI_FILETIME_1970;
    int64_t ticks;
    if (us == EVLI_TIME_OMIT)
        return NULL;
    if (us == EVLI_TIME_NOW) {
        GetSystemTimePreciseAsFileTime(time);
        return time;
    }
    if (us > most || us <= -EVLI_FILETIME_1970 / 10) { /* 1601 is the first, and 0 none */
        *error = ERROR_INVALID_PARAMETER;
        return NULL;
    }
    ticks = us * 10 + EVLI_FILETIME_1970;
    time->dwLowDateTime = (DWORD)ticks;
    time->dwHighDateTime = (DWORD)(ticks >> 32);
    return time;
}

static DWORD evli_utime_handle(evl_fs_t *req, HANDLE file) {
    FILETIME accessed, written;
    DWORD error = 0;
    const FILETIME *atime = evli_utime(req->priv.args.times_us[0], &accessed, &error);
    const FILETIME *mtime = evli_utime(req->priv.args.times_us[1], &written, &error);
    if (error == 0 && !SetFileTime(file, NULL, atime, mtime))
        error = GetLastError();
    return error;
}

static DWORD evli_utime_path(evl_fs_t *req, evli_path_t *path) {
    HANDLE file;
    DWORD error =
        evli_win_open(path->text, FILE_WRITE_ATTRIBUTES, req->fs_type == EVL_FS_LUTIME, &file);
    if (error == 0) {
        error = evli_utime_handle(req, file);
        CloseHandle(file);
    }
    return error;
}

/* A file that is open for reading does not let its times be set: by another handle it does. */
static DWORD evli_utime_file(evl_fs_t *req) {
    HANDLE file, again;
    DWORD error = evli_fs_handle(req, &file);
    if (error == 0)
        error = evli_utime_handle(req, file);
    if (error == ERROR_ACCESS_DENIED && evli_win_reopen(file, FILE_WRITE_ATTRIBUTES, &again) == 0) {
        error = evli_utime_handle(req, again);
        CloseHandle(again);
    }
    return error;
}

static int64_t evli_fs_utime(evl_fs_t *req) {
    if (req->fs_type == EVL_FS_FUTIME)
        return evli_fs_result(req, evli_utime_file(req));
    return evli_fs_with_wide(req, evli_utime_path);
}

/* ---- Removing and renaming ---- */

/* Of FILE_INFO_BY_HANDLE_CLASS, where some headers count wrong. */
enum { EVLI_INFO_DISPOSITION_EX = 21, EVLI_INFO_RENAME_EX = 22 };

/* Whether the system, or the file system, does not know a call. */
static int evli_win_is_missing(DWORD error) {
    return error == ERROR_INVALID_PARAMETER || error == ERROR_INVALID_FUNCTION ||
           error == ERROR_NOT_SUPPORTED || error == ERROR_CALL_NOT_IMPLEMENTED ||
           error == ERROR_INVALID_LEVEL;
}

/* The name goes when the last handle does; a file that is read-only has to be made another before. */
static DWORD evli_remove_late(HANDLE file, DWORD attributes) {
    FILE_DISPOSITION_INFO disposition;
    HANDLE again = INVALID_HANDLE_VALUE;
    DWORD error = 0;
    if (attributes & FILE_ATTRIBUTE_READONLY) {
        error = evli_win_reopen(file, FILE_READ_ATTRIBUTES | FILE_WRITE_ATTRIBUTES, &again);
        if (error == 0)
            error = evli_chmod_handle(again, 0666);
    }
    disposition.DeleteFile = TRUE;
    if (error == 0 &&
        !SetFileInformationByHandle(file, FileDispositionInfo, &disposition, sizeof(disposition))) {
        error = GetLastError();
        if (attributes & FILE_ATTRIBUTE_READONLY)
            evli_chmod_handle(again, 0444);
    }
    if (again != INVALID_HANDLE_VALUE)
        CloseHandle(again);
    return error;
}

/* The name goes at once where that can be had (Windows 10 1607, NTFS), read-only (1809) or not. */
static DWORD evli_remove_handle(HANDLE file, DWORD attributes) {
    const DWORD at_once = 0x01 | 0x02, read_only = 0x10;
    DWORD flags = at_once | (attributes & FILE_ATTRIBUTE_READONLY ? read_only : 0), error;
    if (SetFileInformationByHandle(file, (FILE_INFO_BY_HANDLE_CLASS)EVLI_INFO_DISPOSITION_EX,
                                   &flags, sizeof(flags)))
        return 0;
    error = GetLastError();
    return evli_win_is_missing(error) ? evli_remove_late(file, attributes) : error;
}

/* Of directories, unlink takes those that are links, and rmdir all. */
static DWORD evli_remove_check(HANDLE file, int rmdir, DWORD *attributes) {
    FILE_BASIC_INFO basic;
    size_t size;
    DWORD error;
    if (!GetFileInformationByHandleEx(file, FileBasicInfo, &basic, sizeof(basic)))
        return GetLastError();
    *attributes = basic.FileAttributes;
    if (!(basic.FileAttributes & FILE_ATTRIBUTE_DIRECTORY))
        return rmdir ? (DWORD)ERROR_DIRECTORY : 0;
    if (rmdir)
        return 0;
    if (!(basic.FileAttributes & FILE_ATTRIBUTE_REPARSE_POINT))
        return ERROR_ACCESS_DENIED;
    error = evli_link_read(file, NULL, &size);
    return error == ERROR_SYMLINK_NOT_SUPPORTED ? (DWORD)ERROR_ACCESS_DENIED : error;
}

static DWORD evli_remove_path(evl_fs_t *req, evli_path_t *path) {
    HANDLE file;
    DWORD attributes = 0;
    DWORD error = evli_win_open(path->text, FILE_READ_ATTRIBUTES | DELETE, 1, &file);
    if (error != 0)
        return error;
    error = evli_remove_check(file, req->fs_type == EVL_FS_RMDIR, &attributes);
    if (error == 0)
        error = evli_remove_handle(file, attributes);
    CloseHandle(file);
    return error;
}

static int64_t evli_fs_unlink(evl_fs_t *req) {
    return evli_fs_with_wide(req, evli_remove_path);
}

static int64_t evli_fs_rmdir(evl_fs_t *req) {
    return evli_fs_with_wide(req, evli_remove_path);
}

/* FILE_RENAME_INFO, with flags. */
typedef struct {
    DWORD flags;
    HANDLE root;
    DWORD size;
    WCHAR text[1];
} evli_rename_t;

/* Replaces a file that somebody has open (Windows 10 1709, NTFS). */
static DWORD evli_rename_over(const evli_path_t *path, const evli_path_t *new_path) {
    const DWORD replace = 0x01, at_once = 0x02;
    size_t size = offsetof(evli_rename_t, text) + (new_path->length + 1) * sizeof(WCHAR);
    evli_rename_t *to;
    HANDLE file;
    DWORD error = evli_win_open(path->text, DELETE | SYNCHRONIZE, 1, &file);
    if (error != 0)
        return error;
    to = (evli_rename_t *)evli_calloc(1, sizeof(*to) + size);
    if (to == NULL) {
        CloseHandle(file);
        return ERROR_NOT_ENOUGH_MEMORY;
    }
    to->flags = replace | at_once;
    to->size = (DWORD)(new_path->length * sizeof(WCHAR));
    memcpy(to->text, new_path->text, to->size);
    if (!SetFileInformationByHandle(file, (FILE_INFO_BY_HANDLE_CLASS)EVLI_INFO_RENAME_EX, to,
                                    (DWORD)size))
        error = GetLastError();
    CloseHandle(file);
    evli_free(to);
    return error;
}

static DWORD evli_rename_paths(evl_fs_t *req, evli_path_t *path, evli_path_t *new_path) {
    DWORD error, attributes;
    (void)req;
    if (MoveFileExW(path->text, new_path->text, MOVEFILE_REPLACE_EXISTING))
        return 0;
    error = GetLastError();
    if (error != ERROR_ACCESS_DENIED)
        return error;
    attributes = GetFileAttributesW(new_path->text);
    if (attributes == INVALID_FILE_ATTRIBUTES ||
        (attributes & (FILE_ATTRIBUTE_DIRECTORY | FILE_ATTRIBUTE_READONLY)))
        return error;
    return evli_rename_over(path, new_path) == 0 ? 0 : error;
}

static int64_t evli_fs_rename(evl_fs_t *req) {
    return evli_fs_with_wide2(req, evli_rename_paths);
}

/* ---- Making ---- */

static DWORD evli_mkdir_path(evl_fs_t *req, evli_path_t *path) {
    (void)req;
    return CreateDirectoryW(path->text, NULL) ? 0 : GetLastError();
}

static int64_t evli_fs_mkdir(evl_fs_t *req) {
    int64_t result = evli_fs_with_wide(req, evli_mkdir_path);
    return req->error == ERROR_INVALID_NAME || req->error == ERROR_DIRECTORY ? (int)EVL_EINVAL
                                                                             : result;
}

static DWORD evli_mkstemp_path(evl_fs_t *req, evli_path_t *path) {
    HANDLE file = CreateFileW(path->text, GENERIC_READ | GENERIC_WRITE, EVLI_SHARE_ALL, NULL,
                              CREATE_NEW, FILE_ATTRIBUTE_NORMAL, NULL);
    DWORD error;
    if (file == INVALID_HANDLE_VALUE)
        return GetLastError();
    error = evli_crt_put(file, 0, &req->priv.file);
    if (error != 0)
        DeleteFileW(path->text);
    return error;
}

enum { EVLI_TEMP_LETTERS = 6 };

/* Writes other letters into the template and into its wide twin. */
static DWORD evli_temp_name(char *end, WCHAR *wide_end) {
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    char bytes[sizeof(uint64_t)];
    uint64_t value;
    int i;
    if (evli_sys_random(bytes, sizeof(bytes)) != 0)
        return ERROR_IO_DEVICE;
    memcpy(&value, bytes, sizeof(value));
    for (i = 1; i <= EVLI_TEMP_LETTERS; i++) {
        end[-i] = letters[value % (sizeof(letters) - 1)];
        wide_end[-i] = (WCHAR)end[-i];
        value /= sizeof(letters) - 1;
    }
    return 0;
}

static DWORD evli_temp_path(evl_fs_t *req, evli_path_t *path) {
    char *text = (char *)(uintptr_t)req->path;
    size_t size = strlen(text);
    DWORD error = 0;
    int tries;
    if (size < EVLI_TEMP_LETTERS || strcmp(text + size - EVLI_TEMP_LETTERS, "XXXXXX") != 0)
        return ERROR_INVALID_PARAMETER;
    for (tries = 0; tries < 1000; tries++) {
        error = evli_temp_name(text + size, path->text + path->length);
        if (error == 0)
            error = req->fs_type == EVL_FS_MKDTEMP ? evli_mkdir_path(req, path)
                                                   : evli_mkstemp_path(req, path);
        if (error != ERROR_ALREADY_EXISTS && error != ERROR_FILE_EXISTS)
            break;
    }
    return error;
}

static int64_t evli_fs_mkdtemp(evl_fs_t *req) {
    int64_t result = evli_fs_with_wide(req, evli_temp_path);
    if (result < 0)
        ((char *)(uintptr_t)req->path)[0] = '\0';
    return result;
}

static int64_t evli_fs_mkstemp(evl_fs_t *req) {
    int64_t result = evli_fs_mkdtemp(req);
    return result < 0 ? result : req->priv.file;
}

/* ---- Real paths and file systems ---- */

static DWORD evli_realpath_handle(HANDLE file, char **found) {
    DWORD room = GetFinalPathNameByHandleW(file, NULL, 0, FILE_NAME_NORMALIZED), length, error = 0;
    WCHAR *block, *text;
    size_t size;
    if (room == 0)
        return GetLastError();
    text = block = (WCHAR *)evli_malloc(((size_t)room + 1) * sizeof(*block));
    if (block == NULL)
        return ERROR_NOT_ENOUGH_MEMORY;
    length = GetFinalPathNameByHandleW(file, block, room + 1, FILE_NAME_NORMALIZED);
    if (length == 0 || length > room) {
        error = length == 0 ? GetLastError() : (DWORD)ERROR_INVALID_HANDLE;
    } else if (length >= 8 && memcmp(text, L"\\\\?\\UNC\\", 8 * sizeof(*text)) == 0) {
        text += 6;
        length -= 6;
        text[0] = L'\\';
    } else if (length >= 4 && memcmp(text, L"\\\\?\\", 4 * sizeof(*text)) == 0) {
        text += 4;
        length -= 4;
    }
    if (error == 0)
        error = evli_reparse_text(text, length, found, &size);
    evli_free(block);
    return error;
}

static DWORD evli_realpath_path(evl_fs_t *req, evli_path_t *path) {
    char *found = NULL;
    HANDLE file;
    DWORD error = evli_win_open(path->text, 0, 0, &file);
    if (error == 0) {
        error = evli_realpath_handle(file, &found);
        CloseHandle(file);
        req->ptr = found;
    }
    return error;
}

static int64_t evli_fs_realpath(evl_fs_t *req) {
    return evli_fs_with_wide(req, evli_realpath_path);
}

typedef struct { /* FILE_FS_FULL_SIZE_INFORMATION */
    LARGE_INTEGER units;
    LARGE_INTEGER units_available;
    LARGE_INTEGER units_free;
    ULONG unit_sectors;
    ULONG sector_size;
} evli_volume_size_t;

typedef evli_ntstatus_t(NTAPI *evli_nt_query_volume_fn)(HANDLE, evli_iosb_t *, PVOID, ULONG, int);

static DWORD evli_statfs_query(HANDLE file, evli_volume_size_t *volume) {
    const int full_size = 7;
    evli_nt_query_volume_fn query = NULL;
    evli_nt_error_fn to_dos_error = NULL;
    evli_iosb_t iosb;
    evli_ntstatus_t status;
    HMODULE ntdll = GetModuleHandleW(L"ntdll.dll");
    if (ntdll != NULL) {
        query = (evli_nt_query_volume_fn)(void (*)(void))GetProcAddress(
            ntdll, "NtQueryVolumeInformationFile");
        to_dos_error =
            (evli_nt_error_fn)(void (*)(void))GetProcAddress(ntdll, "RtlNtStatusToDosError");
    }
    if (query == NULL || to_dos_error == NULL)
        return ERROR_CALL_NOT_IMPLEMENTED;
    memset(volume, 0, sizeof(*volume));
    status = query(file, &iosb, volume, sizeof(*volume), full_size);
    return status < 0 ? to_dos_error(status) : 0;
}

static DWORD evli_statfs_path(evl_fs_t *req, evli_path_t *path) {
    evli_volume_size_t volume;
    evl_statfs_t *to;
    HANDLE file;
    DWORD error = evli_win_open(path->text, FILE_READ_ATTRIBUTES, 0, &file);
    if (error != 0)
        return error;
    error = evli_statfs_query(file, &volume);
    CloseHandle(file);
    if (error != 0)
        return error;
    to = (evl_statfs_t *)evli_calloc(1, sizeof(*to));
    if (to == NULL)
        return ERROR_NOT_ENOUGH_MEMORY;
    to->f_bsize = (uint64_t)volume.unit_sectors * volume.sector_size;
    to->f_frsize = to->f_bsize;
    to->f_blocks = (uint64_t)volume.units.QuadPart;
    to->f_bfree = (uint64_t)volume.units_free.QuadPart;
    to->f_bavail = (uint64_t)volume.units_available.QuadPart;
    req->ptr = to;
    return 0;
}

static int64_t evli_fs_statfs(evl_fs_t *req) {
    return evli_fs_with_wide(req, evli_statfs_path);
}

/* ---- Directories: an entry at a time ---- */

struct evli_dir_s {
    HANDLE search;
    int first; /* what has been found when it was opened is still to be told */
    WIN32_FIND_DATAW found;
    char name[1024];
};

/* Begins to read; a directory without any entry, as the root of a drive may be, is no error. */
static DWORD evli_dir_find(evli_path_t *path, struct evli_dir_s *dir) {
    WCHAR *end = path->text + path->length;
    DWORD error, attributes;
    if (path->length == 0)
        return ERROR_PATH_NOT_FOUND;
    if (!evli_is_slash(end[-1]) && !(path->length == 2 && end[-1] == L':'))
        *end++ = L'\\';
    end[0] = L'*';
    end[1] = L'\0';
    dir->search = FindFirstFileExW(path->text, FindExInfoBasic, &dir->found, FindExSearchNameMatch,
                                   NULL, FIND_FIRST_EX_LARGE_FETCH);
    dir->first = dir->search != INVALID_HANDLE_VALUE;
    if (dir->first)
        return 0;
    error = GetLastError();
    path->text[path->length] = L'\0';
    attributes = GetFileAttributesW(path->text);
    if (attributes == INVALID_FILE_ATTRIBUTES)
        return GetLastError();
    if (!(attributes & FILE_ATTRIBUTE_DIRECTORY))
        return ERROR_DIRECTORY;
    return error == ERROR_FILE_NOT_FOUND || error == ERROR_NO_MORE_FILES ? 0 : error;
}

static int evli_sys_opendir(const char *path, struct evli_dir_s **dir) {
    evli_path_t wide;
    DWORD error = evli_path_init(&wide, path);
    if (error != 0)
        return evl_translate_sys_error((int)error);
    *dir = (struct evli_dir_s *)evli_malloc(sizeof(**dir));
    error = *dir == NULL ? (DWORD)ERROR_NOT_ENOUGH_MEMORY : evli_dir_find(&wide, *dir);
    evli_path_free(&wide);
    if (error == 0)
        return 0;
    evli_free(*dir);
    return error == ERROR_DIRECTORY ? (int)EVL_ENOTDIR : evl_translate_sys_error((int)error);
}

static evl_dirent_type_t evli_dirent_type(const WIN32_FIND_DATAW *found) {
    DWORD attributes = found->dwFileAttributes;
    if (attributes & FILE_ATTRIBUTE_DEVICE)
        return EVL_DIRENT_CHAR;
    if ((attributes & FILE_ATTRIBUTE_REPARSE_POINT) &&
        (found->dwReserved0 == EVLI_TAG_SYMLINK || found->dwReserved0 == EVLI_TAG_JUNCTION ||
         found->dwReserved0 == EVLI_TAG_LX_SYMLINK || found->dwReserved0 == EVLI_TAG_APP_LINK))
        return EVL_DIRENT_LINK;
    return attributes & FILE_ATTRIBUTE_DIRECTORY ? EVL_DIRENT_DIR : EVL_DIRENT_FILE;
}

static int evli_sys_readdir(struct evli_dir_s *dir, evl_dirent_t *entry) {
    int fault = EVLOOP_FAULT("getdents");
    size_t length, size;
    if (fault)
        return evl_translate_sys_error(fault);
    if (dir->search == INVALID_HANDLE_VALUE)
        return 0;
    if (!dir->first && !FindNextFileW(dir->search, &dir->found)) {
        DWORD error = GetLastError();
        return error == ERROR_NO_MORE_FILES ? 0 : evl_translate_sys_error((int)error);
    }
    dir->first = 0;
    length = wcslen(dir->found.cFileName);
    size = evli_wide_to_utf8(dir->found.cFileName, length, NULL);
    if (size >= sizeof(dir->name))
        return EVL_ENAMETOOLONG;
    evli_wide_to_utf8(dir->found.cFileName, length, dir->name);
    dir->name[size] = '\0';
    entry->name = dir->name;
    entry->type = evli_dirent_type(&dir->found);
    return 1;
}

static int evli_sys_closedir(struct evli_dir_s *dir) {
    if (dir->search != INVALID_HANDLE_VALUE)
        FindClose(dir->search);
    evli_free(dir);
    return 0;
}

/* ---- Copying ---- */

static int64_t evli_fs_sendfile(evl_fs_t *req) {
    return evli_fs_sendfile_through(req);
}

static DWORD evli_copy_paths(evl_fs_t *req, evli_path_t *path, evli_path_t *new_path) {
    evl_stat_t from, to;
    DWORD error;
    if (req->priv.flags & EVL_FS_COPYFILE_FICLONE_FORCE)
        return GetFileAttributesW(path->text) == INVALID_FILE_ATTRIBUTES
                   ? GetLastError()
                   : (DWORD)ERROR_NOT_SUPPORTED;
    if (CopyFileW(path->text, new_path->text, (req->priv.flags & EVL_FS_COPYFILE_EXCL) != 0))
        return 0;
    error = GetLastError();
    if (error == ERROR_SHARING_VIOLATION && evli_stat_open(path->text, 0, &from) == 0 &&
        evli_stat_open(new_path->text, 0, &to) == 0 && from.st_dev == to.st_dev &&
        from.st_ino == to.st_ino)
        return 0; /* onto itself: nothing to do */
    return error;
}

static int64_t evli_fs_copyfile(evl_fs_t *req) {
    int64_t result = evli_fs_with_wide2(req, evli_copy_paths);
    int force = req->priv.flags & EVL_FS_COPYFILE_FICLONE_FORCE;
    return force && req->error == ERROR_NOT_SUPPORTED ? (int)EVL_ENOSYS : result;
}

#endif /* !EVLOOP_NO_FS && _WIN32 */

/* ==== [SECTION] File functions ==== */

#if !defined(EVLOOP_NO_FS)

/* ---- Reading, writing, copying: the same above each system's calls ---- */

/* The buffers of a request are its own copy: what is done is cut off at their front. */
static evl_buf_t *evli_fs_bufs(evl_fs_t *req) {
    return req->priv.block != NULL ? (evl_buf_t *)req->priv.block : req->priv.brief.bufs;
}

static size_t evli_fs_chunk(uint32_t nbufs) {
    return nbufs < EVLI_FILE_IOV_MAX ? nbufs : EVLI_FILE_IOV_MAX;
}

/* One call of the system's: the next could wait, for a pipe has no end. */
static int64_t evli_fs_read(evl_fs_t *req) {
    evl_buf_t *bufs = evli_fs_bufs(req);
    uint32_t nbufs = evli_bufs_skip(&bufs, req->priv.nbufs, 0);
    if (nbufs == 0)
        return evli_sys_file_read(req->priv.file, bufs - 1, 1, req->priv.args.span.offset);
    return evli_sys_file_read(req->priv.file, bufs, evli_fs_chunk(nbufs),
                              req->priv.args.span.offset);
}

static int64_t evli_fs_write(evl_fs_t *req) {
    evl_buf_t *bufs = evli_fs_bufs(req);
    int64_t n, done = 0, offset = req->priv.args.span.offset;
    uint32_t nbufs = evli_bufs_skip(&bufs, req->priv.nbufs, 0);
    if (nbufs == 0)
        return evli_sys_file_write(req->priv.file, bufs - 1, 1, offset);
    while (nbufs > 0) {
        n = evli_sys_file_write(req->priv.file, bufs, evli_fs_chunk(nbufs),
                                offset < 0 ? -1 : offset + done);
        if (n <= 0)
            return done > 0 ? done : n;
        done += n;
        nbufs = evli_bufs_skip(&bufs, nbufs, (size_t)n);
    }
    return done;
}

/* Writes a block that was read from where the file is: as a pipe could not take it back, it waits for
 * room. Returns how much, and the error that came then. */
static size_t evli_fs_write_block(evl_file out, char *base, size_t len, int *err) {
    size_t done = 0;
    while (*err == 0 && done < len) {
        evl_buf_t buf;
        int64_t n;
        buf.base = base + done;
        buf.len = (evli_len_t)(len - done);
        n = evli_sys_file_write(out, &buf, 1, -1);
        if (n > 0)
            done += (size_t)n;
        else
            *err = n == EVL_EAGAIN ? evli_sys_file_wait(out) : n == 0 ? (int)EVL_EIO : (int)n;
    }
    return done;
}

static int evli_fs_copy_through(evl_file out, evl_file in, int64_t offset, uint64_t length,
                                uint64_t *done) {
    const size_t room = 65536;
    char *block = (char *)evli_malloc(room);
    int err = block == NULL ? (int)EVL_ENOMEM : 0;
    *done = 0;
    while (err == 0 && *done < length) {
        evl_buf_t buf;
        int64_t n;
        size_t written;
        buf.base = block;
        buf.len = (evli_len_t)(length - *done < room ? length - *done : room);
        n = evli_sys_file_read(in, &buf, 1, offset < 0 ? -1 : offset + (int64_t)*done);
        if (n == 0)
            break;
        if (n < 0) {
            err = (int)n;
            break;
        }
        written = evli_fs_write_block(out, block, (size_t)n, &err);
        *done += written;
        if (offset < 0 && written < (size_t)n)
            evli_sys_file_back(in, n - (int64_t)written);
    }
    evli_free(block);
    return err;
}

/* As the system's own call would, it tells of an error only when nothing was done before. */
static int64_t evli_fs_sendfile_through(evl_fs_t *req) {
    uint64_t done;
    int err = evli_fs_copy_through(req->priv.out, req->priv.file, req->priv.args.span.offset,
                                   req->priv.args.span.length, &done);
    return done > 0 ? (int64_t)done : err;
}

/* ---- Directories, of which the system gives an entry at a time ---- */

/* Names in one block, one after the other. */
typedef struct {
    char *base;
    size_t size, room;
} evli_names_t;

/* Makes sure of room for an entry: what has been read cannot be put back. */
static int evli_names_reserve(evli_names_t *names) {
    const size_t longest = 1024; /* 255 characters of up to 3 bytes on Windows */
    size_t room = names->room * 2 > 4096 ? names->room * 2 : 4096;
    char *base;
    if (names->room - names->size >= longest)
        return 0;
    base = (char *)evli_memory.realloc_func(names->base, room);
    if (base == NULL)
        return EVL_ENOMEM;
    names->base = base;
    names->room = room;
    return 0;
}

/* Reads the next entry that is neither `.` nor `..`. Returns 1, 0 at the end, or an error. */
static int evli_dir_next(struct evli_dir_s *dir, evl_dirent_t *entry) {
    int r;
    do
        r = evli_sys_readdir(dir, entry);
    while (r > 0 && (strcmp(entry->name, ".") == 0 || strcmp(entry->name, "..") == 0));
    return r;
}

static int evli_names_add(evli_names_t *names, struct evli_dir_s *dir, evl_dirent_t *entry) {
    size_t size;
    int r = evli_names_reserve(names);
    if (r == 0)
        r = evli_dir_next(dir, entry);
    if (r <= 0)
        return r;
    size = strlen(entry->name) + 1;
    if (size > names->room - names->size)
        return EVL_ENAMETOOLONG;
    memcpy(names->base + names->size, entry->name, size);
    names->size += size;
    return 1;
}

/* A scanned entry is its type and its name. */
static int evli_scanned_compare(const void *a, const void *b) {
    return strcmp(*(const char *const *)a + 1, *(const char *const *)b + 1);
}

/* Makes of `count` scanned entries one block: sorted pointers to them, and they themselves. */
static int64_t evli_fs_scanned(evl_fs_t *req, const evli_names_t *names, size_t count) {
    char **entries, *text;
    size_t i;
    if (count == 0)
        return 0;
    entries = (char **)evli_malloc(count * sizeof(*entries) + names->size);
    if (entries == NULL)
        return EVL_ENOMEM;
    text = (char *)(entries + count);
    memcpy(text, names->base, names->size);
    for (i = 0; i < count; i++) {
        entries[i] = text;
        text += 1 + strlen(text + 1) + 1;
    }
    qsort(entries, count, sizeof(*entries), evli_scanned_compare);
    req->ptr = entries;
    return (int64_t)count;
}

static int64_t evli_fs_scandir(evl_fs_t *req) {
    struct evli_dir_s *dir;
    evli_names_t names = {NULL, 0, 0};
    evl_dirent_t entry;
    int64_t result;
    size_t count = 0, type_at;
    int r = evli_sys_opendir(req->path, &dir);
    if (r != 0)
        return r;
    do {
        r = evli_names_reserve(&names);
        type_at = names.size++;
        if (r == 0)
            r = evli_names_add(&names, dir, &entry);
        if (r > 0) {
            names.base[type_at] = (char)entry.type;
            count++;
        }
    } while (r > 0);
    names.size = type_at;
    evli_sys_closedir(dir);
    result = r < 0 ? r : evli_fs_scanned(req, &names, count);
    evli_free(names.base);
    return result;
}

static int64_t evli_fs_opendir(evl_fs_t *req) {
    evl_dir_t *dir = (evl_dir_t *)evli_calloc(1, sizeof(*dir));
    int err = dir == NULL ? (int)EVL_ENOMEM : evli_sys_opendir(req->path, &dir->priv.dir);
    if (err != 0)
        evli_free(dir);
    else
        req->ptr = dir;
    return err;
}

static int64_t evli_fs_readdir(evl_fs_t *req) {
    evl_dir_t *dir = (evl_dir_t *)req->ptr;
    evli_names_t names = {NULL, 0, 0};
    const char *name;
    size_t i, count = 0;
    int r = 1;
    while (r > 0 && count < dir->nentries) {
        r = evli_names_add(&names, dir->priv.dir, &dir->dirents[count]);
        count += r > 0;
    }
    req->priv.block = names.base;
    for (i = 0, name = names.base; i < count; i++, name += strlen(name) + 1)
        dir->dirents[i].name = name;
    return count > 0 ? (int64_t)count : r;
}

static int64_t evli_fs_closedir(evl_fs_t *req) {
    evl_dir_t *dir = (evl_dir_t *)req->ptr;
    int err = evli_sys_closedir(dir->priv.dir);
    evli_free(dir);
    req->ptr = NULL;
    return err;
}

/* ---- Requests ---- */

/* What to do for each type, and the name under which tests make it fail. */
static const struct {
    int64_t (*run)(evl_fs_t *req);
    const char *name;
} evli_fs_calls[] = {
    {NULL, ""}, /* custom */
    {evli_fs_open, "fs_open"},
    {evli_fs_close, "fs_close"},
    {evli_fs_read, "fs_read"},
    {evli_fs_write, "fs_write"},
    {evli_fs_sendfile, "fs_sendfile"},
    {evli_fs_stat, "fs_stat"},
    {evli_fs_stat, "fs_lstat"},
    {evli_fs_stat, "fs_fstat"},
    {evli_fs_ftruncate, "fs_ftruncate"},
    {evli_fs_utime, "fs_utime"},
    {evli_fs_utime, "fs_futime"},
    {evli_fs_access, "fs_access"},
    {evli_fs_chmod, "fs_chmod"},
    {evli_fs_fchmod, "fs_fchmod"},
    {evli_fs_fsync, "fs_fsync"},
    {evli_fs_fdatasync, "fs_fdatasync"},
    {evli_fs_unlink, "fs_unlink"},
    {evli_fs_rmdir, "fs_rmdir"},
    {evli_fs_mkdir, "fs_mkdir"},
    {evli_fs_mkdtemp, "fs_mkdtemp"},
    {evli_fs_rename, "fs_rename"},
    {evli_fs_scandir, "fs_scandir"},
    {evli_fs_link, "fs_link"},
    {evli_fs_symlink, "fs_symlink"},
    {evli_fs_readlink, "fs_readlink"},
    {evli_fs_chown, "fs_chown"},
    {evli_fs_fchown, "fs_fchown"},
    {evli_fs_realpath, "fs_realpath"},
    {evli_fs_copyfile, "fs_copyfile"},
    {evli_fs_lchown, "fs_lchown"},
    {evli_fs_opendir, "fs_opendir"},
    {evli_fs_readdir, "fs_readdir"},
    {evli_fs_closedir, "fs_closedir"},
    {evli_fs_statfs, "fs_statfs"},
    {evli_fs_mkstemp, "fs_mkstemp"},
    {evli_fs_utime, "fs_lutime"},
};

static void evli_fs_run(evli_job_t *job) {
    evl_fs_t *req = EVLI_OF(job, evl_fs_t, priv.job);
    int64_t result;
    do {
        int fault = EVLOOP_FAULT(evli_fs_calls[req->fs_type].name);
        result = fault ? evl_translate_sys_error(fault) : evli_fs_calls[req->fs_type].run(req);
    } while (result == EVL_EINTR);
    req->result = (ssize_t)result;
}

static void evli_fs_done(evl_loop_t *loop, evli_job_t *job) {
    evl_fs_t *req = EVLI_OF(job, evl_fs_t, priv.job);
    if (job->error != 0)
        req->result = job->error;
    EVLI_CALL(loop, req->cb(req));
}

static const evli_job_kind_t evli_fs_job = {evli_fs_run, evli_fs_done, 0};

static int evli_fs_begin(evl_loop_t *loop, evl_fs_t *req, evl_fs_type type, evl_fs_cb cb) {
    if (req == NULL || (cb != NULL && loop == NULL))
        return EVL_EINVAL;
    req->type = EVL_FS;
    req->error = 0;
    req->fs_type = type;
    req->loop = loop;
    req->cb = cb;
    req->result = 0;
    req->ptr = NULL;
    req->path = req->priv.new_path = NULL;
    req->priv.block = NULL;
    req->priv.job.own.next = NULL; /* to evl_cancel it is over, until it has been started */
    req->priv.job.error = 0;
    evli_store(&req->priv.job.back, 1);
    return 0;
}

static int evli_fs_start(evl_fs_t *req) {
    int err;
    if (req->cb == NULL) {
        evli_fs_run(&req->priv.job);
        return req->result > INT_MAX ? INT_MAX : (int)req->result;
    }
    err = evli_job_start(req->loop, &req->priv.job, &evli_fs_job);
    if (err != 0)
        evl_fs_req_cleanup(req);
    return err;
}

/* Keeps one path, or two: a copy, unless what it is for is done before the call returns and leaves it
 * as it is. */
static int evli_fs_keep_paths(evl_fs_t *req, const char *path, const char *new_path, int copy) {
    size_t size, new_size;
    char *room = req->priv.brief.paths;
    if (path == NULL)
        return EVL_EINVAL;
    req->path = path;
    req->priv.new_path = new_path;
    if (!copy)
        return 0;
    size = strlen(path) + 1;
    new_size = new_path != NULL ? strlen(new_path) + 1 : 0;
    if (size + new_size > sizeof(req->priv.brief.paths))
        room = (char *)(req->priv.block = evli_malloc(size + new_size));
    if (room == NULL) {
        evl_fs_req_cleanup(req);
        return EVL_ENOMEM;
    }
    req->path = (const char *)memcpy(room, path, size);
    if (new_path != NULL)
        req->priv.new_path = (const char *)memcpy(room + size, new_path, new_size);
    return 0;
}

static int evli_fs_begin_path(evl_loop_t *loop, evl_fs_t *req, evl_fs_type type, const char *path,
                              evl_fs_cb cb) {
    int err = evli_fs_begin(loop, req, type, cb);
    return err != 0 ? err : evli_fs_keep_paths(req, path, NULL, cb != NULL);
}

/* `valid`: whether the other arguments are. */
static int evli_fs_begin_paths(evl_loop_t *loop, evl_fs_t *req, evl_fs_type type, const char *path,
                               const char *new_path, int valid, evl_fs_cb cb) {
    int err = evli_fs_begin(loop, req, type, cb);
    if (err == 0 && (new_path == NULL || !valid))
        err = EVL_EINVAL;
    return err != 0 ? err : evli_fs_keep_paths(req, path, new_path, cb != NULL);
}

static int evli_fs_with_path(evl_loop_t *loop, evl_fs_t *req, evl_fs_type type, const char *path,
                             evl_fs_cb cb) {
    int err = evli_fs_begin_path(loop, req, type, path, cb);
    return err != 0 ? err : evli_fs_start(req);
}

static int evli_fs_begin_file(evl_loop_t *loop, evl_fs_t *req, evl_fs_type type, evl_file file,
                              evl_fs_cb cb) {
    int err = evli_fs_begin(loop, req, type, cb);
    if (err == 0)
        req->priv.file = file;
    return err;
}

static int evli_fs_with_file(evl_loop_t *loop, evl_fs_t *req, evl_fs_type type, evl_file file,
                             evl_fs_cb cb) {
    int err = evli_fs_begin_file(loop, req, type, file, cb);
    return err != 0 ? err : evli_fs_start(req);
}

EVLOOP_API int evl_fs_open(evl_loop_t *loop, evl_fs_t *req, const char *path, int flags, int mode,
                           evl_fs_cb cb) {
    int err = evli_fs_begin_path(loop, req, EVL_FS_OPEN, path, cb);
    if (err != 0)
        return err;
    req->priv.flags = flags;
    req->priv.mode = mode;
    return evli_fs_start(req);
}

EVLOOP_API int evl_fs_close(evl_loop_t *loop, evl_fs_t *req, evl_file file, evl_fs_cb cb) {
    return evli_fs_with_file(loop, req, EVL_FS_CLOSE, file, cb);
}

static int evli_fs_with_bufs(evl_loop_t *loop, evl_fs_t *req, evl_fs_type type, evl_file file,
                             const evl_buf_t bufs[], unsigned int nbufs, int64_t offset,
                             evl_fs_cb cb) {
    int err = evli_fs_begin_file(loop, req, type, file, cb);
    if (err == 0 && (bufs == NULL || nbufs == 0))
        err = EVL_EINVAL;
    if (err != 0)
        return err;
    if (nbufs > EVLI_COUNT(req->priv.brief.bufs)) {
        req->priv.block = evli_malloc(nbufs * sizeof(*bufs));
        if (req->priv.block == NULL)
            return EVL_ENOMEM;
    }
    memcpy(evli_fs_bufs(req), bufs, nbufs * sizeof(*bufs));
    req->priv.nbufs = nbufs;
    req->priv.args.span.offset = offset;
    return evli_fs_start(req);
}

EVLOOP_API int evl_fs_read(evl_loop_t *loop, evl_fs_t *req, evl_file file, const evl_buf_t bufs[],
                           unsigned int nbufs, int64_t offset, evl_fs_cb cb) {
    return evli_fs_with_bufs(loop, req, EVL_FS_READ, file, bufs, nbufs, offset, cb);
}

EVLOOP_API int evl_fs_write(evl_loop_t *loop, evl_fs_t *req, evl_file file, const evl_buf_t bufs[],
                            unsigned int nbufs, int64_t offset, evl_fs_cb cb) {
    return evli_fs_with_bufs(loop, req, EVL_FS_WRITE, file, bufs, nbufs, offset, cb);
}

EVLOOP_API int evl_fs_sendfile(evl_loop_t *loop, evl_fs_t *req, evl_file out_fd, evl_file in_fd,
                               int64_t in_offset, size_t length, evl_fs_cb cb) {
    const size_t most = 0x7ffff000; /* what Linux moves at most */
    int err = evli_fs_begin_file(loop, req, EVL_FS_SENDFILE, in_fd, cb);
    if (err != 0)
        return err;
    req->priv.out = out_fd;
    req->priv.args.span.offset = in_offset;
    req->priv.args.span.length = length < most ? length : most;
    return evli_fs_start(req);
}

static int evli_fs_with_flags(evl_loop_t *loop, evl_fs_t *req, evl_fs_type type, const char *path,
                              const char *new_path, int flags, int known, evl_fs_cb cb) {
    int err = evli_fs_begin_paths(loop, req, type, path, new_path, !(flags & ~known), cb);
    if (err != 0)
        return err;
    req->priv.flags = flags;
    return evli_fs_start(req);
}

EVLOOP_API int evl_fs_copyfile(evl_loop_t *loop, evl_fs_t *req, const char *path,
                               const char *new_path, int flags, evl_fs_cb cb) {
    const int known =
        EVL_FS_COPYFILE_EXCL | EVL_FS_COPYFILE_FICLONE | EVL_FS_COPYFILE_FICLONE_FORCE;
    return evli_fs_with_flags(loop, req, EVL_FS_COPYFILE, path, new_path, flags, known, cb);
}

EVLOOP_API int evl_fs_fsync(evl_loop_t *loop, evl_fs_t *req, evl_file file, evl_fs_cb cb) {
    return evli_fs_with_file(loop, req, EVL_FS_FSYNC, file, cb);
}

EVLOOP_API int evl_fs_fdatasync(evl_loop_t *loop, evl_fs_t *req, evl_file file, evl_fs_cb cb) {
    return evli_fs_with_file(loop, req, EVL_FS_FDATASYNC, file, cb);
}

EVLOOP_API int evl_fs_ftruncate(evl_loop_t *loop, evl_fs_t *req, evl_file file, int64_t offset,
                                evl_fs_cb cb) {
    int err = evli_fs_begin_file(loop, req, EVL_FS_FTRUNCATE, file, cb);
    if (err != 0)
        return err;
    req->priv.args.span.offset = offset;
    return evli_fs_start(req);
}

EVLOOP_API int evl_fs_stat(evl_loop_t *loop, evl_fs_t *req, const char *path, evl_fs_cb cb) {
    return evli_fs_with_path(loop, req, EVL_FS_STAT, path, cb);
}

EVLOOP_API int evl_fs_lstat(evl_loop_t *loop, evl_fs_t *req, const char *path, evl_fs_cb cb) {
    return evli_fs_with_path(loop, req, EVL_FS_LSTAT, path, cb);
}

EVLOOP_API int evl_fs_fstat(evl_loop_t *loop, evl_fs_t *req, evl_file file, evl_fs_cb cb) {
    return evli_fs_with_file(loop, req, EVL_FS_FSTAT, file, cb);
}

EVLOOP_API int evl_fs_statfs(evl_loop_t *loop, evl_fs_t *req, const char *path, evl_fs_cb cb) {
    return evli_fs_with_path(loop, req, EVL_FS_STATFS, path, cb);
}

static int evli_fs_start_mode(evl_fs_t *req, int mode) {
    req->priv.mode = mode;
    return evli_fs_start(req);
}

EVLOOP_API int evl_fs_access(evl_loop_t *loop, evl_fs_t *req, const char *path, int mode,
                             evl_fs_cb cb) {
    int err = evli_fs_begin_path(loop, req, EVL_FS_ACCESS, path, cb);
    return err != 0 ? err : evli_fs_start_mode(req, mode);
}

EVLOOP_API int evl_fs_chmod(evl_loop_t *loop, evl_fs_t *req, const char *path, int mode,
                            evl_fs_cb cb) {
    int err = evli_fs_begin_path(loop, req, EVL_FS_CHMOD, path, cb);
    return err != 0 ? err : evli_fs_start_mode(req, mode);
}

EVLOOP_API int evl_fs_fchmod(evl_loop_t *loop, evl_fs_t *req, evl_file file, int mode,
                             evl_fs_cb cb) {
    int err = evli_fs_begin_file(loop, req, EVL_FS_FCHMOD, file, cb);
    return err != 0 ? err : evli_fs_start_mode(req, mode);
}

static int evli_fs_start_owner(evl_fs_t *req, evl_uid_t uid, evl_gid_t gid) {
    req->priv.args.owner.uid = uid;
    req->priv.args.owner.gid = gid;
    return evli_fs_start(req);
}

EVLOOP_API int evl_fs_chown(evl_loop_t *loop, evl_fs_t *req, const char *path, evl_uid_t uid,
                            evl_gid_t gid, evl_fs_cb cb) {
    int err = evli_fs_begin_path(loop, req, EVL_FS_CHOWN, path, cb);
    return err != 0 ? err : evli_fs_start_owner(req, uid, gid);
}

EVLOOP_API int evl_fs_fchown(evl_loop_t *loop, evl_fs_t *req, evl_file file, evl_uid_t uid,
                             evl_gid_t gid, evl_fs_cb cb) {
    int err = evli_fs_begin_file(loop, req, EVL_FS_FCHOWN, file, cb);
    return err != 0 ? err : evli_fs_start_owner(req, uid, gid);
}

EVLOOP_API int evl_fs_lchown(evl_loop_t *loop, evl_fs_t *req, const char *path, evl_uid_t uid,
                             evl_gid_t gid, evl_fs_cb cb) {
    int err = evli_fs_begin_path(loop, req, EVL_FS_LCHOWN, path, cb);
    return err != 0 ? err : evli_fs_start_owner(req, uid, gid);
}

/* Rounded, so that what a double holds of a time comes out as what it was meant to be. The bits tell
 * the special values, as comparing does not when the program is compiled without them. */
static int64_t evli_fs_time_us(double time) {
    const uint64_t exponent = UINT64_C(0x7ff) << 52, fraction = (UINT64_C(1) << 52) - 1;
    const double most = 9.2e18;
    double us = time * 1e6;
    uint64_t bits;
    memcpy(&bits, &time, sizeof(bits));
    if ((bits & exponent) == exponent)
        return bits & fraction ? EVLI_TIME_OMIT : EVLI_TIME_NOW;
    us = us > most ? most : us < -most ? -most : us;
    return (int64_t)(us < 0 ? us - 0.5 : us + 0.5);
}

static int evli_fs_start_times(evl_fs_t *req, double atime, double mtime) {
    req->priv.args.times_us[0] = evli_fs_time_us(atime);
    req->priv.args.times_us[1] = evli_fs_time_us(mtime);
    return evli_fs_start(req);
}

EVLOOP_API int evl_fs_utime(evl_loop_t *loop, evl_fs_t *req, const char *path, double atime,
                            double mtime, evl_fs_cb cb) {
    int err = evli_fs_begin_path(loop, req, EVL_FS_UTIME, path, cb);
    return err != 0 ? err : evli_fs_start_times(req, atime, mtime);
}

EVLOOP_API int evl_fs_futime(evl_loop_t *loop, evl_fs_t *req, evl_file file, double atime,
                             double mtime, evl_fs_cb cb) {
    int err = evli_fs_begin_file(loop, req, EVL_FS_FUTIME, file, cb);
    return err != 0 ? err : evli_fs_start_times(req, atime, mtime);
}

EVLOOP_API int evl_fs_lutime(evl_loop_t *loop, evl_fs_t *req, const char *path, double atime,
                             double mtime, evl_fs_cb cb) {
    int err = evli_fs_begin_path(loop, req, EVL_FS_LUTIME, path, cb);
    return err != 0 ? err : evli_fs_start_times(req, atime, mtime);
}

EVLOOP_API int evl_fs_unlink(evl_loop_t *loop, evl_fs_t *req, const char *path, evl_fs_cb cb) {
    return evli_fs_with_path(loop, req, EVL_FS_UNLINK, path, cb);
}

EVLOOP_API int evl_fs_rename(evl_loop_t *loop, evl_fs_t *req, const char *path,
                             const char *new_path, evl_fs_cb cb) {
    int err = evli_fs_begin_paths(loop, req, EVL_FS_RENAME, path, new_path, 1, cb);
    return err != 0 ? err : evli_fs_start(req);
}

EVLOOP_API int evl_fs_link(evl_loop_t *loop, evl_fs_t *req, const char *path, const char *new_path,
                           evl_fs_cb cb) {
    int err = evli_fs_begin_paths(loop, req, EVL_FS_LINK, path, new_path, 1, cb);
    return err != 0 ? err : evli_fs_start(req);
}

EVLOOP_API int evl_fs_symlink(evl_loop_t *loop, evl_fs_t *req, const char *path,
                              const char *new_path, int flags, evl_fs_cb cb) {
    const int known = EVL_FS_SYMLINK_DIR | EVL_FS_SYMLINK_JUNCTION;
    return evli_fs_with_flags(loop, req, EVL_FS_SYMLINK, path, new_path, flags, known, cb);
}

EVLOOP_API int evl_fs_readlink(evl_loop_t *loop, evl_fs_t *req, const char *path, evl_fs_cb cb) {
    return evli_fs_with_path(loop, req, EVL_FS_READLINK, path, cb);
}

EVLOOP_API int evl_fs_realpath(evl_loop_t *loop, evl_fs_t *req, const char *path, evl_fs_cb cb) {
    return evli_fs_with_path(loop, req, EVL_FS_REALPATH, path, cb);
}

EVLOOP_API int evl_fs_mkdir(evl_loop_t *loop, evl_fs_t *req, const char *path, int mode,
                            evl_fs_cb cb) {
    int err = evli_fs_begin_path(loop, req, EVL_FS_MKDIR, path, cb);
    return err != 0 ? err : evli_fs_start_mode(req, mode);
}

EVLOOP_API int evl_fs_rmdir(evl_loop_t *loop, evl_fs_t *req, const char *path, evl_fs_cb cb) {
    return evli_fs_with_path(loop, req, EVL_FS_RMDIR, path, cb);
}

/* The template becomes the name that was made, so it is copied always. */
static int evli_fs_with_template(evl_loop_t *loop, evl_fs_t *req, evl_fs_type type, const char *tpl,
                                 evl_fs_cb cb) {
    int err = evli_fs_begin(loop, req, type, cb);
    if (err == 0)
        err = evli_fs_keep_paths(req, tpl, NULL, 1);
    return err != 0 ? err : evli_fs_start(req);
}

EVLOOP_API int evl_fs_mkdtemp(evl_loop_t *loop, evl_fs_t *req, const char *tpl, evl_fs_cb cb) {
    return evli_fs_with_template(loop, req, EVL_FS_MKDTEMP, tpl, cb);
}

EVLOOP_API int evl_fs_mkstemp(evl_loop_t *loop, evl_fs_t *req, const char *tpl, evl_fs_cb cb) {
    return evli_fs_with_template(loop, req, EVL_FS_MKSTEMP, tpl, cb);
}

EVLOOP_API int evl_fs_scandir(evl_loop_t *loop, evl_fs_t *req, const char *path, int flags,
                              evl_fs_cb cb) {
    int err = evli_fs_begin_path(loop, req, EVL_FS_SCANDIR, path, cb);
    if (err != 0)
        return err;
    req->priv.flags = flags;
    req->priv.next = 0;
    return evli_fs_start(req);
}

EVLOOP_API int evl_fs_scandir_next(evl_fs_t *req, evl_dirent_t *ent) {
    char **entries = (char **)req->ptr;
    const char *entry;
    if (req->result < 0)
        return (int)req->result;
    if (entries == NULL || req->priv.next >= (size_t)req->result)
        return EVL_EOF;
    entry = entries[req->priv.next++];
    ent->type = (evl_dirent_type_t)entry[0];
    ent->name = entry + 1;
    return 0;
}

EVLOOP_API int evl_fs_opendir(evl_loop_t *loop, evl_fs_t *req, const char *path, evl_fs_cb cb) {
    return evli_fs_with_path(loop, req, EVL_FS_OPENDIR, path, cb);
}

static int evli_fs_with_dir(evl_loop_t *loop, evl_fs_t *req, evl_fs_type type, evl_dir_t *dir,
                            int valid, evl_fs_cb cb) {
    int err = evli_fs_begin(loop, req, type, cb);
    if (err == 0 && !valid)
        err = EVL_EINVAL;
    if (err != 0)
        return err;
    req->ptr = dir;
    return evli_fs_start(req);
}

EVLOOP_API int evl_fs_readdir(evl_loop_t *loop, evl_fs_t *req, evl_dir_t *dir, evl_fs_cb cb) {
    int valid = dir != NULL && dir->dirents != NULL && dir->nentries > 0;
    return evli_fs_with_dir(loop, req, EVL_FS_READDIR, dir, valid, cb);
}

EVLOOP_API int evl_fs_closedir(evl_loop_t *loop, evl_fs_t *req, evl_dir_t *dir, evl_fs_cb cb) {
    return evli_fs_with_dir(loop, req, EVL_FS_CLOSEDIR, dir, dir != NULL, cb);
}

/* A directory that was opened is its user's, until closedir. */
EVLOOP_API void evl_fs_req_cleanup(evl_fs_t *req) {
    if (req == NULL)
        return;
    if (req->ptr != &req->statbuf && req->fs_type != EVL_FS_OPENDIR &&
        req->fs_type != EVL_FS_READDIR && req->fs_type != EVL_FS_CLOSEDIR)
        evli_free(req->ptr);
    evli_free(req->priv.block);
    req->priv.block = NULL;
    req->ptr = NULL;
    req->path = req->priv.new_path = NULL;
}

EVLOOP_API evl_fs_type evl_fs_get_type(const evl_fs_t *req) {
    return req->fs_type;
}

EVLOOP_API ssize_t evl_fs_get_result(const evl_fs_t *req) {
    return req->result;
}

EVLOOP_API int evl_fs_get_system_error(const evl_fs_t *req) {
    return evli_fs_system_error(req);
}

EVLOOP_API void *evl_fs_get_ptr(const evl_fs_t *req) {
    return req->ptr;
}

EVLOOP_API const char *evl_fs_get_path(const evl_fs_t *req) {
    return req->path;
}

EVLOOP_API evl_stat_t *evl_fs_get_statbuf(evl_fs_t *req) {
    return &req->statbuf;
}

#endif /* !EVLOOP_NO_FS */

/* ==== [SECTION] Host names ==== */

#if !defined(EVLOOP_NO_DNS)

#define EVLI_LABEL_MAX 63
#define EVLI_NAME_MAX  253 /* and a dot at the end */

/* Reads a code point of UTF-8. Returns it and moves on, or -1: what is there is none. */
static int32_t evli_utf8_next(const unsigned char **text) {
    static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
    const unsigned char *p = *text;
    uint32_t c = *p++;
    unsigned more = c < 0x80 ? 0 : c >= 0xc2 && c < 0xe0 ? 1 : c >= 0xe0 && c < 0xf0 ? 2 : 3;
    unsigned i;
    if (c >= 0x80 && (c < 0xc2 || c > 0xf4))
        return -1;
    if (more > 0)
        c &= 0x3fu >> more;
    for (i = 0; i < more; i++) {
        if ((*p & 0xc0) != 0x80)
            return -1;
        c = c << 6 | (*p++ & 0x3f);
    }
    if (c < least[more] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
        return -1;
    *text = p;
    return (int32_t)c;
}

static char evli_punycode_digit(uint32_t d) {
    return (char)(d < 26 ? 'a' + d : '0' + (d - 26));
}

/* RFC 3492, 6.1: how far the next deltas are likely to reach. */
static uint32_t evli_punycode_adapt(uint32_t delta, uint32_t count, int first) {
    uint32_t k = 0;
    delta = first ? delta / 700 : delta / 2;
    delta += delta / count;
    for (; delta > 35 * 26 / 2; k += 36)
        delta /= 35;
    return k + 36 * delta / (delta + 38);
}

/* Writes a delta as a number of variable length. */
static size_t evli_punycode_number(char *out, size_t room, uint32_t delta, uint32_t bias) {
    size_t n = 0;
    uint32_t k;
    for (k = 36; n < room; k += 36) {
        uint32_t t = k <= bias ? 1 : k >= bias + 26 ? 26 : k - bias;
        if (delta < t) {
            out[n++] = evli_punycode_digit(delta);
            return n;
        }
        out[n++] = evli_punycode_digit(t + (delta - t) % (36 - t));
        delta = (delta - t) / (36 - t);
    }
    return room + 1;
}

/* RFC 3492, 6.3: a label as the ASCII code points that it has and the places of the others. Returns
 * the length, or more than `room` when that is too little. */
static size_t evli_punycode(const int32_t *label, uint32_t count, char *out, size_t room) {
    uint32_t i, done = 0, basic, delta = 0, bias = 72;
    int32_t n = 0x80;
    size_t length = 0;
    for (i = 0; i < count; i++)
        if (label[i] < 0x80 && length < room)
            out[length++] = (char)label[i];
    done = basic = (uint32_t)length;
    if (basic > 0 && length < room)
        out[length++] = '-';
    while (done < count && length <= room) {
        int32_t next = 0x110000;
        for (i = 0; i < count; i++)
            if (label[i] >= n && label[i] < next)
                next = label[i];
        delta += (uint32_t)(next - n) * (done + 1);
        for (i = 0; i < count && length <= room; i++) {
            if (label[i] < next)
                delta++;
            if (label[i] != next)
                continue;
            length += evli_punycode_number(out + length, room - length, delta, bias);
            done++;
            bias = evli_punycode_adapt(delta, done, done == basic + 1);
            delta = 0;
        }
        delta++;
        n = next + 1;
    }
    return length;
}

/* The dots of IDNA: the full stops of Chinese and Japanese text are ones, too. */
static int evli_is_dot(int32_t c) {
    return c == '.' || c == 0x3002 || c == 0xff0e || c == 0xff61;
}

/* Reads a label, up to a dot or the end. */
static int evli_idna_read(const unsigned char **text, int32_t *label, uint32_t *count,
                          int *is_ascii) {
    *count = 0;
    *is_ascii = 1;
    while (**text != '\0') {
        const unsigned char *at = *text;
        int32_t c = evli_utf8_next(text);
        if (c < 0)
            return EVL_EINVAL;
        if (evli_is_dot(c)) {
            *text = at;
            return 0;
        }
        if (*count == EVLI_LABEL_MAX)
            return EVL_ENAMETOOLONG;
        *is_ascii = *is_ascii && c < 0x80;
        label[(*count)++] = c;
    }
    return 0;
}

/* Writes a name in ASCII into room for 256 bytes: labels that are not ASCII as xn-- and their
 * Punycode. Returns 0 or an error; nothing is ever cut. */
static int evli_idna(const char *name, char *out) {
    const unsigned char *text = (const unsigned char *)name;
    int32_t label[EVLI_LABEL_MAX];
    size_t length = 0, n;
    uint32_t i, count;
    int is_ascii, err;
    for (;;) {
        char ascii[EVLI_LABEL_MAX + 1];
        err = evli_idna_read(&text, label, &count, &is_ascii);
        if (err != 0)
            return err;
        if (is_ascii) {
            n = count;
            for (i = 0; i < count; i++)
                ascii[i] = (char)label[i];
        } else {
            memcpy(ascii, "xn--", 4);
            n = 4 + evli_punycode(label, count, ascii + 4, EVLI_LABEL_MAX - 4);
        }
        if (n > EVLI_LABEL_MAX || length + n > EVLI_NAME_MAX + (n == 0 ? 1u : 0u))
            return EVL_ENAMETOOLONG;
        memcpy(out + length, ascii, n);
        length += n;
        out[length] = '\0';
        if (*text == '\0')
            return 0;
        evli_utf8_next(&text);
        out[length++] = '.';
        out[length] = '\0';
    }
}

#endif /* !EVLOOP_NO_DNS */

/* ==== [SECTION] Name lookup functions ==== */

#if !defined(EVLOOP_NO_DNS)

static void evli_getaddrinfo_run(evli_job_t *job) {
    evl_getaddrinfo_t *req = EVLI_OF(job, evl_getaddrinfo_t, priv.job);
    req->priv.result =
        evli_sys_getaddrinfo(req->priv.host, req->priv.service, req->priv.hints, &req->addrinfo);
}

static void evli_getaddrinfo_end(evl_getaddrinfo_t *req) {
    evli_free(req->priv.block);
    req->priv.block = NULL;
    req->priv.hints = NULL;
    req->priv.host = req->priv.service = NULL;
}

static void evli_getaddrinfo_done(evl_loop_t *loop, evli_job_t *job) {
    evl_getaddrinfo_t *req = EVLI_OF(job, evl_getaddrinfo_t, priv.job);
    if (job->error != 0)
        req->priv.result = EVL_EAI_CANCELED;
    evli_getaddrinfo_end(req);
    EVLI_CALL(loop, req->priv.cb(req, req->priv.result, req->addrinfo));
}

static const evli_job_kind_t evli_getaddrinfo_job = {evli_getaddrinfo_run, evli_getaddrinfo_done,
                                                     1};

/* Copies what the caller need not keep: the hints and the two names. */
static int evli_getaddrinfo_copy(evl_getaddrinfo_t *req, const char *host, const char *service,
                                 const struct addrinfo *hints) {
    size_t host_size = host != NULL ? strlen(host) + 1 : 0;
    size_t service_size = service != NULL ? strlen(service) + 1 : 0;
    char *block = (char *)evli_malloc(sizeof(*hints) + host_size + service_size);
    if (block == NULL)
        return EVL_ENOMEM;
    req->priv.block = block;
    if (hints != NULL) {
        memcpy(block, hints, sizeof(*hints));
        req->priv.hints = (struct addrinfo *)(void *)block;
    }
    block += sizeof(*hints);
    if (host != NULL)
        req->priv.host = (char *)memcpy(block, host, host_size);
    if (service != NULL)
        req->priv.service = (char *)memcpy(block + host_size, service, service_size);
    return 0;
}

EVLOOP_API int evl_getaddrinfo(evl_loop_t *loop, evl_getaddrinfo_t *req, evl_getaddrinfo_cb cb,
                               const char *node, const char *service,
                               const struct addrinfo *hints) {
    char host[256];
    int err = 0;
    if (req == NULL || (node == NULL && service == NULL) || (cb != NULL && loop == NULL))
        return EVL_EINVAL;
    if (node != NULL)
        err = evli_idna(node, host);
    if (err != 0)
        return err;
    req->type = EVL_GETADDRINFO;
    req->loop = loop;
    req->addrinfo = NULL;
    memset(&req->priv, 0, sizeof(req->priv));
    req->priv.cb = cb;
    err = evli_getaddrinfo_copy(req, node != NULL ? host : NULL, service, hints);
    if (err != 0)
        return err;
    if (cb == NULL) {
        evli_getaddrinfo_run(&req->priv.job);
        evli_getaddrinfo_end(req);
        return req->priv.result;
    }
    err = evli_job_start(loop, &req->priv.job, &evli_getaddrinfo_job);
    if (err != 0)
        evli_getaddrinfo_end(req);
    return err;
}

EVLOOP_API void evl_freeaddrinfo(struct addrinfo *ai) {
    evli_sys_freeaddrinfo(ai);
}

static void evli_getnameinfo_run(evli_job_t *job) {
    evl_getnameinfo_t *req = EVLI_OF(job, evl_getnameinfo_t, priv.job);
    req->priv.result = evli_sys_getnameinfo((const struct sockaddr *)(void *)req->priv.addr,
                                            req->host, req->service, req->priv.flags);
    if (req->priv.result != 0)
        req->host[0] = req->service[0] = '\0';
}

static void evli_getnameinfo_done(evl_loop_t *loop, evli_job_t *job) {
    evl_getnameinfo_t *req = EVLI_OF(job, evl_getnameinfo_t, priv.job);
    const char *host = NULL, *service = NULL;
    if (job->error != 0)
        req->priv.result = EVL_EAI_CANCELED;
    if (req->priv.result == 0) {
        host = req->host;
        service = req->service;
    }
    EVLI_CALL(loop, req->priv.cb(req, req->priv.result, host, service));
}

static const evli_job_kind_t evli_getnameinfo_job = {evli_getnameinfo_run, evli_getnameinfo_done,
                                                     1};

EVLOOP_API int evl_getnameinfo(evl_loop_t *loop, evl_getnameinfo_t *req, evl_getnameinfo_cb cb,
                               const struct sockaddr *addr, int flags) {
    socklen_t len = evli_sockaddr_len(addr);
    if (req == NULL || len == 0 || (cb != NULL && loop == NULL))
        return EVL_EINVAL;
    req->type = EVL_GETNAMEINFO;
    req->loop = loop;
    req->host[0] = req->service[0] = '\0';
    memset(&req->priv, 0, sizeof(req->priv));
    memcpy(req->priv.addr, addr, (size_t)len);
    req->priv.flags = flags;
    req->priv.cb = cb;
    if (cb != NULL)
        return evli_job_start(loop, &req->priv.job, &evli_getnameinfo_job);
    evli_getnameinfo_run(&req->priv.job);
    return req->priv.result;
}

#endif /* !EVLOOP_NO_DNS */

/* ==== [SECTION] Dispatch tables ==== */

/* Where the core calls upwards: by kind of io and deadline, and by type of handle. */
static const evli_io_fn evli_io_functions[EVLI_IO_KINDS] = {
#if EVLI_HAVE_STREAMS
    evli_stream_run,
    evli_listener_run,
#else
    NULL,
    NULL,
#endif
    evli_poll_run,
};

static const evli_due_fn evli_due_functions[EVLI_DUE_KINDS] = {
    evli_timer_fire,   evli_task_fire,
#if EVLI_HAVE_STREAMS
    evli_read_timeout, evli_write_timeout, evli_accept_retry,
#endif
};

#define EVLI_NO_TYPE                                                                               \
    { (size_t) - 1, NULL, NULL, NULL, NULL }

static const evli_handle_type_t evli_handle_types[EVL_HANDLE_TYPE_MAX + 1] = {
    EVLI_NO_TYPE, /* unknown */
    {sizeof(evl_async_t), evli_async_close, NULL, NULL, NULL},
    {sizeof(evl_check_t), evli_watcher_close, NULL, NULL, NULL},
    EVLI_NO_TYPE, /* fs_event */
    EVLI_NO_TYPE, /* fs_poll */
    {sizeof(evl_handle_t), NULL, NULL, NULL, NULL},
    {sizeof(evl_idle_t), evli_watcher_close, NULL, NULL, NULL},
    EVLI_NO_TYPE, /* pipe */
    {sizeof(evl_poll_t), evli_poll_close, NULL, evli_poll_io, NULL},
    {sizeof(evl_prepare_t), evli_watcher_close, NULL, NULL, NULL},
    EVLI_NO_TYPE, /* process */
#if EVLI_HAVE_STREAMS
    {sizeof(evl_stream_t), NULL, NULL, NULL, NULL},
    {sizeof(evl_tcp_t), evli_stream_close, evli_stream_finish, evli_stream_io, evli_tcp_listen},
#else
    EVLI_NO_TYPE, /* stream */
    EVLI_NO_TYPE, /* tcp */
#endif
    {sizeof(evl_timer_t), evli_timer_close, NULL, NULL, NULL},
    EVLI_NO_TYPE, /* tty */
    EVLI_NO_TYPE, /* udp */
    EVLI_NO_TYPE, /* signal */
    EVLI_NO_TYPE, /* file */
    EVLI_NO_TYPE, /* what is no type */
};

static evli_io_fn evli_io_function(unsigned kind) {
    return evli_io_functions[kind];
}

static evli_due_fn evli_due_function(unsigned kind) {
    return evli_due_functions[kind];
}

static const evli_handle_type_t *evli_handle_type_of(evl_handle_type type) {
    return &evli_handle_types[(unsigned)type < EVL_HANDLE_TYPE_MAX ? type : EVL_HANDLE_TYPE_MAX];
}

#ifdef __cplusplus
} /* extern "C" */
#endif

#if defined(_MSC_VER)
#pragma warning(pop)
#endif

#endif /* EVLOOP_IMPLEMENTATION */

/* ==== [SECTION] libuv names ==== */

/* A program written for libuv compiles as it is with a uv.h of two lines:
 *
 *     #define EVLOOP_UV_NAMES
 *     #include "evloop.h"
 */
#if defined(EVLOOP_UV_NAMES) && !defined(UV_H)
#define UV_H

#if defined(_WIN32)
#include <winsock2.h> /* what programs rely on uv.h to bring */
#include <ws2tcpip.h>
#include <windows.h>
#else
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <pwd.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/param.h>
#include <sys/stat.h>
#include <termios.h>
#endif

#if !defined(_WIN32)
#define HAVE_DIRENT_TYPES /* programs ask for it */
#endif

#define UV_EXTERN EVLOOP_API

/* Types. */
#define uv_async_t          evl_async_t
#define uv_barrier_t        evl_barrier_t
#define uv_buf_t            evl_buf_t
#define uv_check_t          evl_check_t
#define uv_cond_t           evl_cond_t
#define uv_connect_t        evl_connect_t
#define uv_errno_t          evl_errno_t
#define uv_handle_t         evl_handle_t
#define uv_idle_t           evl_idle_t
#define uv_key_t            evl_key_t
#define uv_loop_t           evl_loop_t
#define uv_metrics_t        evl_metrics_t
#define uv_mutex_t          evl_mutex_t
#define uv_once_t           evl_once_t
#define uv_os_fd_t          evl_os_fd_t
#define uv_os_sock_t        evl_os_sock_t
#define uv_pid_t            evl_pid_t
#define uv_poll_t           evl_poll_t
#define uv_prepare_t        evl_prepare_t
#define uv_req_t            evl_req_t
#define uv_rwlock_t         evl_rwlock_t
#define uv_sem_t            evl_sem_t
#define uv_shutdown_t       evl_shutdown_t
#define uv_stream_t         evl_stream_t
#define uv_tcp_t            evl_tcp_t
#define uv_thread_options_t evl_thread_options_t
#define uv_thread_t         evl_thread_t
#define uv_timer_t          evl_timer_t
#define uv_timespec64_t     evl_timespec64_t
#define uv_write_t          evl_write_t
#define uv_work_t           evl_work_t
#define uv_random_t         evl_random_t
#define uv_getaddrinfo_t    evl_getaddrinfo_t
#define uv_getnameinfo_t    evl_getnameinfo_t
#define uv_file             evl_file
#define uv_handle_type      evl_handle_type
#define uv_req_type         evl_req_type
#define uv_run_mode         evl_run_mode
#define uv_loop_option      evl_loop_option
#define uv_clock_id         evl_clock_id
#define uv_thread_cb        evl_thread_cb
#define uv_malloc_func      evl_malloc_func
#define uv_realloc_func     evl_realloc_func
#define uv_calloc_func      evl_calloc_func
#define uv_free_func        evl_free_func
#define uv_alloc_cb         evl_alloc_cb
#define uv_after_work_cb    evl_after_work_cb
#define uv_async_cb         evl_async_cb
#define uv_check_cb         evl_check_cb
#define uv_close_cb         evl_close_cb
#define uv_connect_cb       evl_connect_cb
#define uv_connection_cb    evl_connection_cb
#define uv_idle_cb          evl_idle_cb
#define uv_poll_cb          evl_poll_cb
#define uv_prepare_cb       evl_prepare_cb
#define uv_read_cb          evl_read_cb
#define uv_shutdown_cb      evl_shutdown_cb
#define uv_timer_cb         evl_timer_cb
#define uv_random_cb        evl_random_cb
#define uv_getaddrinfo_cb   evl_getaddrinfo_cb
#define uv_getnameinfo_cb   evl_getnameinfo_cb
#define uv_walk_cb          evl_walk_cb
#define uv_work_cb          evl_work_cb
#define uv_write_cb         evl_write_cb
#define uv_async_s          evl_async_s
#define uv_check_s          evl_check_s
#define uv_connect_s        evl_connect_s
#define uv_handle_s         evl_handle_s
#define uv_idle_s           evl_idle_s
#define uv_loop_s           evl_loop_s
#define uv_poll_s           evl_poll_s
#define uv_prepare_s        evl_prepare_s
#define uv_req_s            evl_req_s
#define uv_shutdown_s       evl_shutdown_s
#define uv_stream_s         evl_stream_s
#define uv_tcp_s            evl_tcp_s
#define uv_timer_s          evl_timer_s
#define uv_write_s          evl_write_s
#define uv_metrics_s        evl_metrics_s
#define uv_thread_options_s evl_thread_options_s
#define uv_fs_t             evl_fs_t
#define uv_fs_cb            evl_fs_cb
#define uv_fs_type          evl_fs_type
#define uv_fs_s             evl_fs_s
#define uv_dir_t            evl_dir_t
#define uv_dir_s            evl_dir_s
#define uv_dirent_t         evl_dirent_t
#define uv_dirent_s         evl_dirent_s
#define uv_dirent_type_t    evl_dirent_type_t
#define uv_stat_t           evl_stat_t
#define uv_statfs_t         evl_statfs_t
#define uv_statfs_s         evl_statfs_s
#define uv_timespec_t       evl_timespec_t
#define uv_uid_t            evl_uid_t
#define uv_gid_t            evl_gid_t
#define uv_any_handle       evl_any_handle
#define uv_any_req          evl_any_req
#define uv_poll_event       evl_poll_event
#define uv_tcp_flags        evl_tcp_flags

/* Functions. */
#define uv_accept                      evl_accept
#define uv_async_init                  evl_async_init
#define uv_async_send                  evl_async_send
#define uv_backend_fd                  evl_backend_fd
#define uv_backend_timeout             evl_backend_timeout
#define uv_barrier_destroy             evl_barrier_destroy
#define uv_barrier_init                evl_barrier_init
#define uv_barrier_wait                evl_barrier_wait
#define uv_buf_init                    evl_buf_init
#define uv_check_init                  evl_check_init
#define uv_check_start                 evl_check_start
#define uv_check_stop                  evl_check_stop
#define uv_clock_gettime               evl_clock_gettime
#define uv_close                       evl_close
#define uv_cond_broadcast              evl_cond_broadcast
#define uv_cond_destroy                evl_cond_destroy
#define uv_cond_init                   evl_cond_init
#define uv_cond_signal                 evl_cond_signal
#define uv_cond_timedwait              evl_cond_timedwait
#define uv_cond_wait                   evl_cond_wait
#define uv_default_loop                evl_default_loop
#define uv_err_name                    evl_err_name
#define uv_err_name_r                  evl_err_name_r
#define uv_fileno                      evl_fileno
#define uv_fs_access                   evl_fs_access
#define uv_fs_chmod                    evl_fs_chmod
#define uv_fs_chown                    evl_fs_chown
#define uv_fs_close                    evl_fs_close
#define uv_fs_closedir                 evl_fs_closedir
#define uv_fs_copyfile                 evl_fs_copyfile
#define uv_fs_fchmod                   evl_fs_fchmod
#define uv_fs_fchown                   evl_fs_fchown
#define uv_fs_fdatasync                evl_fs_fdatasync
#define uv_fs_fstat                    evl_fs_fstat
#define uv_fs_fsync                    evl_fs_fsync
#define uv_fs_ftruncate                evl_fs_ftruncate
#define uv_fs_futime                   evl_fs_futime
#define uv_fs_get_path                 evl_fs_get_path
#define uv_fs_get_ptr                  evl_fs_get_ptr
#define uv_fs_get_result               evl_fs_get_result
#define uv_fs_get_statbuf              evl_fs_get_statbuf
#define uv_fs_get_system_error         evl_fs_get_system_error
#define uv_fs_get_type                 evl_fs_get_type
#define uv_fs_lchown                   evl_fs_lchown
#define uv_fs_link                     evl_fs_link
#define uv_fs_lstat                    evl_fs_lstat
#define uv_fs_lutime                   evl_fs_lutime
#define uv_fs_mkdir                    evl_fs_mkdir
#define uv_fs_mkdtemp                  evl_fs_mkdtemp
#define uv_fs_mkstemp                  evl_fs_mkstemp
#define uv_fs_open                     evl_fs_open
#define uv_fs_opendir                  evl_fs_opendir
#define uv_fs_read                     evl_fs_read
#define uv_fs_readdir                  evl_fs_readdir
#define uv_fs_readlink                 evl_fs_readlink
#define uv_fs_realpath                 evl_fs_realpath
#define uv_fs_rename                   evl_fs_rename
#define uv_fs_req_cleanup              evl_fs_req_cleanup
#define uv_fs_rmdir                    evl_fs_rmdir
#define uv_fs_scandir                  evl_fs_scandir
#define uv_fs_scandir_next             evl_fs_scandir_next
#define uv_fs_sendfile                 evl_fs_sendfile
#define uv_fs_stat                     evl_fs_stat
#define uv_fs_statfs                   evl_fs_statfs
#define uv_fs_symlink                  evl_fs_symlink
#define uv_fs_unlink                   evl_fs_unlink
#define uv_fs_utime                    evl_fs_utime
#define uv_fs_write                    evl_fs_write
#define uv_guess_handle                evl_guess_handle
#define uv_get_osfhandle               evl_get_osfhandle
#define uv_open_osfhandle              evl_open_osfhandle
#define uv_handle_get_data             evl_handle_get_data
#define uv_handle_get_loop             evl_handle_get_loop
#define uv_handle_get_type             evl_handle_get_type
#define uv_handle_set_data             evl_handle_set_data
#define uv_handle_size                 evl_handle_size
#define uv_handle_type_name            evl_handle_type_name
#define uv_has_ref                     evl_has_ref
#define uv_hrtime                      evl_hrtime
#define uv_idle_init                   evl_idle_init
#define uv_idle_start                  evl_idle_start
#define uv_idle_stop                   evl_idle_stop
#define uv_inet_ntop                   evl_inet_ntop
#define uv_inet_pton                   evl_inet_pton
#define uv_ip4_addr                    evl_ip4_addr
#define uv_ip4_name                    evl_ip4_name
#define uv_ip6_addr                    evl_ip6_addr
#define uv_ip6_name                    evl_ip6_name
#define uv_ip_name                     evl_ip_name
#define uv_is_active                   evl_is_active
#define uv_is_closing                  evl_is_closing
#define uv_is_readable                 evl_is_readable
#define uv_is_writable                 evl_is_writable
#define uv_key_create                  evl_key_create
#define uv_key_delete                  evl_key_delete
#define uv_key_get                     evl_key_get
#define uv_key_set                     evl_key_set
#define uv_library_shutdown            evl_library_shutdown
#define uv_listen                      evl_listen
#define uv_loop_alive                  evl_loop_alive
#define uv_loop_close                  evl_loop_close
#define uv_loop_configure              evl_loop_configure
#define uv_loop_delete                 evl_loop_delete
#define uv_loop_fork                   evl_loop_fork
#define uv_loop_get_data               evl_loop_get_data
#define uv_loop_init                   evl_loop_init
#define uv_loop_new                    evl_loop_new
#define uv_loop_set_data               evl_loop_set_data
#define uv_loop_size                   evl_loop_size
#define uv_metrics_idle_time           evl_metrics_idle_time
#define uv_metrics_info                evl_metrics_info
#define uv_mutex_destroy               evl_mutex_destroy
#define uv_mutex_init                  evl_mutex_init
#define uv_mutex_init_recursive        evl_mutex_init_recursive
#define uv_mutex_lock                  evl_mutex_lock
#define uv_mutex_trylock               evl_mutex_trylock
#define uv_mutex_unlock                evl_mutex_unlock
#define uv_now                         evl_now
#define uv_once                        evl_once
#define uv_pipe                        evl_pipe
#define uv_poll_init                   evl_poll_init
#define uv_poll_init_socket            evl_poll_init_socket
#define uv_poll_start                  evl_poll_start
#define uv_poll_stop                   evl_poll_stop
#define uv_prepare_init                evl_prepare_init
#define uv_prepare_start               evl_prepare_start
#define uv_prepare_stop                evl_prepare_stop
#define uv_print_active_handles        evl_print_active_handles
#define uv_print_all_handles           evl_print_all_handles
#define uv_read_start                  evl_read_start
#define uv_read_stop                   evl_read_stop
#define uv_recv_buffer_size            evl_recv_buffer_size
#define uv_ref                         evl_ref
#define uv_cancel                      evl_cancel
#define uv_queue_work                  evl_queue_work
#define uv_freeaddrinfo                evl_freeaddrinfo
#define uv_getaddrinfo                 evl_getaddrinfo
#define uv_getnameinfo                 evl_getnameinfo
#define uv_random                      evl_random
#define uv_replace_allocator           evl_replace_allocator
#define uv_req_get_data                evl_req_get_data
#define uv_req_get_type                evl_req_get_type
#define uv_req_set_data                evl_req_set_data
#define uv_req_size                    evl_req_size
#define uv_req_type_name               evl_req_type_name
#define uv_run                         evl_run
#define uv_rwlock_destroy              evl_rwlock_destroy
#define uv_rwlock_init                 evl_rwlock_init
#define uv_rwlock_rdlock               evl_rwlock_rdlock
#define uv_rwlock_rdunlock             evl_rwlock_rdunlock
#define uv_rwlock_tryrdlock            evl_rwlock_tryrdlock
#define uv_rwlock_trywrlock            evl_rwlock_trywrlock
#define uv_rwlock_wrlock               evl_rwlock_wrlock
#define uv_rwlock_wrunlock             evl_rwlock_wrunlock
#define uv_sem_destroy                 evl_sem_destroy
#define uv_sem_init                    evl_sem_init
#define uv_sem_post                    evl_sem_post
#define uv_sem_trywait                 evl_sem_trywait
#define uv_sem_wait                    evl_sem_wait
#define uv_send_buffer_size            evl_send_buffer_size
#define uv_shutdown                    evl_shutdown
#define uv_sleep                       evl_sleep
#define uv_socketpair                  evl_socketpair
#define uv_stop                        evl_stop
#define uv_stream_get_write_queue_size evl_stream_get_write_queue_size
#define uv_stream_set_blocking         evl_stream_set_blocking
#define uv_strerror                    evl_strerror
#define uv_strerror_r                  evl_strerror_r
#define uv_tcp_bind                    evl_tcp_bind
#define uv_tcp_close_reset             evl_tcp_close_reset
#define uv_tcp_connect                 evl_tcp_connect
#define uv_tcp_getpeername             evl_tcp_getpeername
#define uv_tcp_getsockname             evl_tcp_getsockname
#define uv_tcp_init                    evl_tcp_init
#define uv_tcp_init_ex                 evl_tcp_init_ex
#define uv_tcp_keepalive               evl_tcp_keepalive
#define uv_tcp_keepalive_ex            evl_tcp_keepalive_ex
#define uv_tcp_nodelay                 evl_tcp_nodelay
#define uv_tcp_open                    evl_tcp_open
#define uv_tcp_simultaneous_accepts    evl_tcp_simultaneous_accepts
#define uv_thread_create               evl_thread_create
#define uv_thread_create_ex            evl_thread_create_ex
#define uv_thread_detach               evl_thread_detach
#define uv_thread_equal                evl_thread_equal
#define uv_thread_join                 evl_thread_join
#define uv_thread_self                 evl_thread_self
#define uv_timer_again                 evl_timer_again
#define uv_timer_get_due_in            evl_timer_get_due_in
#define uv_timer_get_repeat            evl_timer_get_repeat
#define uv_timer_init                  evl_timer_init
#define uv_timer_set_repeat            evl_timer_set_repeat
#define uv_timer_start                 evl_timer_start
#define uv_timer_stop                  evl_timer_stop
#define uv_translate_sys_error         evl_translate_sys_error
#define uv_try_write                   evl_try_write
#define uv_try_write2                  evl_try_write2
#define uv_unref                       evl_unref
#define uv_update_time                 evl_update_time
#define uv_version                     evl_version
#define uv_version_string              evl_version_string
#define uv_walk                        evl_walk
#define uv_write                       evl_write
#define uv_write2                      evl_write2

/* Constants. */
#define UV_RUN_DEFAULT               EVL_RUN_DEFAULT
#define UV_EPIPE                     EVL_EPIPE
#define UV_VERSION_MAJOR             EVL_VERSION_MAJOR
#define UV_VERSION_MINOR             EVL_VERSION_MINOR
#define UV_VERSION_PATCH             EVL_VERSION_PATCH
#define UV_VERSION_IS_RELEASE        EVL_VERSION_IS_RELEASE
#define UV_VERSION_SUFFIX            EVL_VERSION_SUFFIX
#define UV_VERSION_HEX               EVL_VERSION_HEX
#define UV_EINVAL                    EVL_EINVAL
#define UV_CLOCK_MONOTONIC           EVL_CLOCK_MONOTONIC
#define UV_CLOCK_REALTIME            EVL_CLOCK_REALTIME
#define UV_EFAULT                    EVL_EFAULT
#define UV_EAI_ADDRFAMILY            EVL_EAI_ADDRFAMILY
#define UV_EAI_AGAIN                 EVL_EAI_AGAIN
#define UV_EAI_BADFLAGS              EVL_EAI_BADFLAGS
#define UV_EAI_BADHINTS              EVL_EAI_BADHINTS
#define UV_EAI_CANCELED              EVL_EAI_CANCELED
#define UV_EAI_FAIL                  EVL_EAI_FAIL
#define UV_EAI_FAMILY                EVL_EAI_FAMILY
#define UV_EAI_MEMORY                EVL_EAI_MEMORY
#define UV_EAI_NODATA                EVL_EAI_NODATA
#define UV_EAI_NONAME                EVL_EAI_NONAME
#define UV_EAI_OVERFLOW              EVL_EAI_OVERFLOW
#define UV_EAI_PROTOCOL              EVL_EAI_PROTOCOL
#define UV_EAI_SERVICE               EVL_EAI_SERVICE
#define UV_EAI_SOCKTYPE              EVL_EAI_SOCKTYPE
#define UV_UNKNOWN                   EVL_UNKNOWN
#define UV_EOF                       EVL_EOF
#define UV_E2BIG                     EVL_E2BIG
#define UV_EACCES                    EVL_EACCES
#define UV_EADDRINUSE                EVL_EADDRINUSE
#define UV_EADDRNOTAVAIL             EVL_EADDRNOTAVAIL
#define UV_EAFNOSUPPORT              EVL_EAFNOSUPPORT
#define UV_EAGAIN                    EVL_EAGAIN
#define UV_EALREADY                  EVL_EALREADY
#define UV_EBADF                     EVL_EBADF
#define UV_EBUSY                     EVL_EBUSY
#define UV_ECANCELED                 EVL_ECANCELED
#define UV_ECONNABORTED              EVL_ECONNABORTED
#define UV_ECONNREFUSED              EVL_ECONNREFUSED
#define UV_ECONNRESET                EVL_ECONNRESET
#define UV_EDESTADDRREQ              EVL_EDESTADDRREQ
#define UV_EEXIST                    EVL_EEXIST
#define UV_EFBIG                     EVL_EFBIG
#define UV_EHOSTUNREACH              EVL_EHOSTUNREACH
#define UV_EINTR                     EVL_EINTR
#define UV_EIO                       EVL_EIO
#define UV_EISCONN                   EVL_EISCONN
#define UV_EISDIR                    EVL_EISDIR
#define UV_ELOOP                     EVL_ELOOP
#define UV_EMFILE                    EVL_EMFILE
#define UV_EMSGSIZE                  EVL_EMSGSIZE
#define UV_ENAMETOOLONG              EVL_ENAMETOOLONG
#define UV_ENETDOWN                  EVL_ENETDOWN
#define UV_ENETUNREACH               EVL_ENETUNREACH
#define UV_ENFILE                    EVL_ENFILE
#define UV_ENOBUFS                   EVL_ENOBUFS
#define UV_ENODEV                    EVL_ENODEV
#define UV_ENOENT                    EVL_ENOENT
#define UV_ENOMEM                    EVL_ENOMEM
#define UV_ENOPROTOOPT               EVL_ENOPROTOOPT
#define UV_ENOSPC                    EVL_ENOSPC
#define UV_ENOSYS                    EVL_ENOSYS
#define UV_ENOTCONN                  EVL_ENOTCONN
#define UV_ENOTDIR                   EVL_ENOTDIR
#define UV_ENOTEMPTY                 EVL_ENOTEMPTY
#define UV_ENOTSOCK                  EVL_ENOTSOCK
#define UV_ENOTSUP                   EVL_ENOTSUP
#define UV_EOVERFLOW                 EVL_EOVERFLOW
#define UV_EPERM                     EVL_EPERM
#define UV_EPROTO                    EVL_EPROTO
#define UV_EPROTONOSUPPORT           EVL_EPROTONOSUPPORT
#define UV_EPROTOTYPE                EVL_EPROTOTYPE
#define UV_ERANGE                    EVL_ERANGE
#define UV_EROFS                     EVL_EROFS
#define UV_ESHUTDOWN                 EVL_ESHUTDOWN
#define UV_ESPIPE                    EVL_ESPIPE
#define UV_ESRCH                     EVL_ESRCH
#define UV_ETIMEDOUT                 EVL_ETIMEDOUT
#define UV_ETXTBSY                   EVL_ETXTBSY
#define UV_EXDEV                     EVL_EXDEV
#define UV_ENXIO                     EVL_ENXIO
#define UV_EMLINK                    EVL_EMLINK
#define UV_ENOTTY                    EVL_ENOTTY
#define UV_EILSEQ                    EVL_EILSEQ
#define UV_ENOEXEC                   EVL_ENOEXEC
#define UV_ECHARSET                  EVL_ECHARSET
#define UV_ENONET                    EVL_ENONET
#define UV_EREMOTEIO                 EVL_EREMOTEIO
#define UV_EFTYPE                    EVL_EFTYPE
#define UV_EHOSTDOWN                 EVL_EHOSTDOWN
#define UV_ESOCKTNOSUPPORT           EVL_ESOCKTNOSUPPORT
#define UV_ENODATA                   EVL_ENODATA
#define UV_EUNATCH                   EVL_EUNATCH
#define UV_ERRNO_MAX                 EVL_ERRNO_MAX
#define UV_RUN_ONCE                  EVL_RUN_ONCE
#define UV_RUN_NOWAIT                EVL_RUN_NOWAIT
#define UV_LOOP_BLOCK_SIGNAL         EVL_LOOP_BLOCK_SIGNAL
#define UV_METRICS_IDLE_TIME         EVL_METRICS_IDLE_TIME
#define UV_LOOP_USE_IO_URING_SQPOLL  EVL_LOOP_USE_IO_URING_SQPOLL
#define UV_UNKNOWN_HANDLE            EVL_UNKNOWN_HANDLE
#define UV_FILE                      EVL_FILE
#define UV_HANDLE_TYPE_MAX           EVL_HANDLE_TYPE_MAX
#define UV_UNKNOWN_REQ               EVL_UNKNOWN_REQ
#define UV_REQ_TYPE_MAX              EVL_REQ_TYPE_MAX
#define UV_TCP_IPV6ONLY              EVL_TCP_IPV6ONLY
#define UV_TCP_REUSEPORT             EVL_TCP_REUSEPORT
#define UV_NONBLOCK_PIPE             EVL_NONBLOCK_PIPE
#define UV_READABLE                  EVL_READABLE
#define UV_WRITABLE                  EVL_WRITABLE
#define UV_DISCONNECT                EVL_DISCONNECT
#define UV_PRIORITIZED               EVL_PRIORITIZED
#define UV_ONCE_INIT                 EVL_ONCE_INIT
#define UV_THREAD_NO_FLAGS           EVL_THREAD_NO_FLAGS
#define UV_THREAD_HAS_STACK_SIZE     EVL_THREAD_HAS_STACK_SIZE
#define UV_ASYNC                     EVL_ASYNC
#define UV_CHECK                     EVL_CHECK
#define UV_FS_EVENT                  EVL_FS_EVENT
#define UV_FS_POLL                   EVL_FS_POLL
#define UV_HANDLE                    EVL_HANDLE
#define UV_IDLE                      EVL_IDLE
#define UV_NAMED_PIPE                EVL_NAMED_PIPE
#define UV_POLL                      EVL_POLL
#define UV_PREPARE                   EVL_PREPARE
#define UV_PROCESS                   EVL_PROCESS
#define UV_STREAM                    EVL_STREAM
#define UV_TCP                       EVL_TCP
#define UV_TIMER                     EVL_TIMER
#define UV_TTY                       EVL_TTY
#define UV_UDP                       EVL_UDP
#define UV_SIGNAL                    EVL_SIGNAL
#define UV_REQ                       EVL_REQ
#define UV_CONNECT                   EVL_CONNECT
#define UV_WRITE                     EVL_WRITE
#define UV_SHUTDOWN                  EVL_SHUTDOWN
#define UV_UDP_SEND                  EVL_UDP_SEND
#define UV_FS                        EVL_FS
#define UV_FS_O_RDONLY               EVL_FS_O_RDONLY
#define UV_FS_O_WRONLY               EVL_FS_O_WRONLY
#define UV_FS_O_RDWR                 EVL_FS_O_RDWR
#define UV_FS_O_APPEND               EVL_FS_O_APPEND
#define UV_FS_O_CREAT                EVL_FS_O_CREAT
#define UV_FS_O_EXCL                 EVL_FS_O_EXCL
#define UV_FS_O_TRUNC                EVL_FS_O_TRUNC
#define UV_FS_O_DIRECT               EVL_FS_O_DIRECT
#define UV_FS_O_DIRECTORY            EVL_FS_O_DIRECTORY
#define UV_FS_O_DSYNC                EVL_FS_O_DSYNC
#define UV_FS_O_EXLOCK               EVL_FS_O_EXLOCK
#define UV_FS_O_FILEMAP              EVL_FS_O_FILEMAP
#define UV_FS_O_NOATIME              EVL_FS_O_NOATIME
#define UV_FS_O_NOCTTY               EVL_FS_O_NOCTTY
#define UV_FS_O_NOFOLLOW             EVL_FS_O_NOFOLLOW
#define UV_FS_O_NONBLOCK             EVL_FS_O_NONBLOCK
#define UV_FS_O_RANDOM               EVL_FS_O_RANDOM
#define UV_FS_O_SEQUENTIAL           EVL_FS_O_SEQUENTIAL
#define UV_FS_O_SHORT_LIVED          EVL_FS_O_SHORT_LIVED
#define UV_FS_O_SYMLINK              EVL_FS_O_SYMLINK
#define UV_FS_O_SYNC                 EVL_FS_O_SYNC
#define UV_FS_O_TEMPORARY            EVL_FS_O_TEMPORARY
#define UV_FS_COPYFILE_EXCL          EVL_FS_COPYFILE_EXCL
#define UV_FS_COPYFILE_FICLONE       EVL_FS_COPYFILE_FICLONE
#define UV_FS_COPYFILE_FICLONE_FORCE EVL_FS_COPYFILE_FICLONE_FORCE
#define UV_FS_SYMLINK_DIR            EVL_FS_SYMLINK_DIR
#define UV_FS_SYMLINK_JUNCTION       EVL_FS_SYMLINK_JUNCTION
#define UV_FS_UTIME_NOW              EVL_FS_UTIME_NOW
#define UV_FS_UTIME_OMIT             EVL_FS_UTIME_OMIT
#define UV_FS_UNKNOWN                EVL_FS_UNKNOWN
#define UV_FS_CUSTOM                 EVL_FS_CUSTOM
#define UV_FS_OPEN                   EVL_FS_OPEN
#define UV_FS_CLOSE                  EVL_FS_CLOSE
#define UV_FS_READ                   EVL_FS_READ
#define UV_FS_WRITE                  EVL_FS_WRITE
#define UV_FS_SENDFILE               EVL_FS_SENDFILE
#define UV_FS_STAT                   EVL_FS_STAT
#define UV_FS_LSTAT                  EVL_FS_LSTAT
#define UV_FS_FSTAT                  EVL_FS_FSTAT
#define UV_FS_FTRUNCATE              EVL_FS_FTRUNCATE
#define UV_FS_UTIME                  EVL_FS_UTIME
#define UV_FS_FUTIME                 EVL_FS_FUTIME
#define UV_FS_ACCESS                 EVL_FS_ACCESS
#define UV_FS_CHMOD                  EVL_FS_CHMOD
#define UV_FS_FCHMOD                 EVL_FS_FCHMOD
#define UV_FS_FSYNC                  EVL_FS_FSYNC
#define UV_FS_FDATASYNC              EVL_FS_FDATASYNC
#define UV_FS_UNLINK                 EVL_FS_UNLINK
#define UV_FS_RMDIR                  EVL_FS_RMDIR
#define UV_FS_MKDIR                  EVL_FS_MKDIR
#define UV_FS_MKDTEMP                EVL_FS_MKDTEMP
#define UV_FS_RENAME                 EVL_FS_RENAME
#define UV_FS_SCANDIR                EVL_FS_SCANDIR
#define UV_FS_LINK                   EVL_FS_LINK
#define UV_FS_SYMLINK                EVL_FS_SYMLINK
#define UV_FS_READLINK               EVL_FS_READLINK
#define UV_FS_CHOWN                  EVL_FS_CHOWN
#define UV_FS_FCHOWN                 EVL_FS_FCHOWN
#define UV_FS_REALPATH               EVL_FS_REALPATH
#define UV_FS_COPYFILE               EVL_FS_COPYFILE
#define UV_FS_LCHOWN                 EVL_FS_LCHOWN
#define UV_FS_OPENDIR                EVL_FS_OPENDIR
#define UV_FS_READDIR                EVL_FS_READDIR
#define UV_FS_CLOSEDIR               EVL_FS_CLOSEDIR
#define UV_FS_STATFS                 EVL_FS_STATFS
#define UV_FS_MKSTEMP                EVL_FS_MKSTEMP
#define UV_FS_LUTIME                 EVL_FS_LUTIME
#define UV_DIRENT_UNKNOWN            EVL_DIRENT_UNKNOWN
#define UV_DIRENT_FILE               EVL_DIRENT_FILE
#define UV_DIRENT_DIR                EVL_DIRENT_DIR
#define UV_DIRENT_LINK               EVL_DIRENT_LINK
#define UV_DIRENT_FIFO               EVL_DIRENT_FIFO
#define UV_DIRENT_SOCKET             EVL_DIRENT_SOCKET
#define UV_DIRENT_CHAR               EVL_DIRENT_CHAR
#define UV_DIRENT_BLOCK              EVL_DIRENT_BLOCK
#define UV_WORK                      EVL_WORK
#define UV_GETADDRINFO               EVL_GETADDRINFO
#define UV_GETNAMEINFO               EVL_GETNAMEINFO
#define UV_RANDOM                    EVL_RANDOM
#define UV_ERRNO_MAP(XX)             EVL_ERRNO_MAP(XX)
#define UV_HANDLE_TYPE_MAP(XX)       EVL_HANDLE_TYPE_MAP(XX)
#define UV_REQ_TYPE_MAP(XX)          EVL_REQ_TYPE_MAP(XX)

#endif /* EVLOOP_UV_NAMES */

/* ==== [SECTION] Changelog and licence ==== */

/* 0.1.0  The loop core, timers, tasks, watchers, async, posts, TCP, poll handles, worker pools, files,
 *        name lookup; epoll, kqueue, I/O completion ports and poll.
 *
 * This file is yours under either of two licences, as you like.
 *
 * 1. Unlicense. This is free and unencumbered software released into the public domain. Anyone is
 * free to copy, modify, publish, use, compile, sell, or distribute this software, either in source
 * code form or as a compiled binary, for any purpose, commercial or non-commercial, and by any
 * means. In jurisdictions that recognize copyright laws, the author or authors of this software
 * dedicate any and all copyright interest in the software to the public domain. We make this
 * dedication for the benefit of the public at large and to the detriment of our heirs and
 * successors. We intend this dedication to be an overt act of relinquishment in perpetuity of all
 * present and future rights to this software under copyright law. See <https://unlicense.org>.
 *
 * 2. MIT No Attribution. Permission is hereby granted, free of charge, to any person obtaining a
 * copy of this software and associated documentation files (the "Software"), to deal in the Software
 * without restriction, including without limitation the rights to use, copy, modify, merge, publish,
 * distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the
 * Software is furnished to do so.
 *
 * Under both: THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED,
 * INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE
 * AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM,
 * DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT
 * OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE. */
