/* net.h - what the tests of streams and polling share: a loop that must leave no descriptor behind,
 * raw sockets for the other end, a byte pattern, and waiting that says what it waited for. */
#ifndef EVLOOP_TESTS_NET_H
#define EVLOOP_TESTS_NET_H

#include "os.h"

#if !defined(_WIN32)
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#endif
#include <time.h>

#define NET_COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define NET_FAIL(what)   test_fail(__FILE__, __LINE__, what)

/* ---- Waiting --------------------------------------------------------------------------------- */

static inline const char **net_waiting(void) {
    static const char *text = "the test to go on";
    return &text;
}

#if !defined(_WIN32)

static inline void net_gave_up(int signum) {
    const char *text = *net_waiting();
    const char *head = "gave up waiting for: ";
    (void)signum;
    if (write(2, head, strlen(head)) < 0 || write(2, text, strlen(text)) < 0)
        _exit(3);
    _exit(1);
}

/* Ends the test before the runner does, with a word about what it was waiting for. */
static inline void net_watch(void) {
    struct sigaction action;
    memset(&action, 0, sizeof(action));
    action.sa_handler = net_gave_up;
    sigemptyset(&action.sa_mask);
    sigaction(SIGALRM, &action, NULL);
    alarm(test_slow() ? 55 : 9);
}

#else

static inline volatile uint64_t *net_deadline(void) {
    static volatile uint64_t ms;
    return &ms;
}

static inline void *net_watch_main(void *arg) {
    while (test_ms() < *net_deadline())
        test_sleep_ms(100);
    fprintf(stderr, "gave up waiting for: %s", *net_waiting());
    TerminateProcess(GetCurrentProcess(), 1);
    return arg;
}

static inline void net_watch(void) {
    os_thread_t thread;
    int started = *net_deadline() != 0;
    *net_deadline() = test_ms() + (test_slow() ? 55000 : 9000);
    if (!started)
        start_thread(&thread, net_watch_main, NULL);
}

#endif

#define NET_TEXT(line) #line
#define NET_LINE(line) NET_TEXT(line)

/* Set, the loop runs in the thinnest slices there are: a callback, and out again. */
static inline int *net_slices(void) {
    static int on;
    return &on;
}

/* An iteration that does not sleep, or a slice. */
static inline int net_turn(evl_loop_t *loop) {
    return *net_slices() ? evl_run_for(loop, 1) : evl_run(loop, EVL_RUN_NOWAIT);
}

static inline int net_wait(evl_loop_t *loop) {
    return *net_slices() ? evl_run_for(loop, 1) : evl_run(loop, EVL_RUN_ONCE);
}

/* Runs the loop until nothing is left to do. */
static inline void net_finish(evl_loop_t *loop) {
    int alive = 1;
    while (alive) {
        alive = *net_slices() ? evl_run_for(loop, 1) : evl_run(loop, EVL_RUN_DEFAULT);
        CHECK_GE(alive, 0);
    }
}

/* Runs the loop until `cond` holds. */
#define NET_UNTIL(loop, cond)                                                                      \
    do {                                                                                           \
        *net_waiting() = __FILE__ ":" NET_LINE(__LINE__) ": " #cond "\n";                          \
        while (!(cond)) {                                                                          \
            int net_alive = net_wait(loop);                                                        \
            if (net_alive == 0 && !(cond))                                                         \
                test_fail(__FILE__, __LINE__, "the loop has nothing left to do before " #cond);    \
        }                                                                                          \
    } while (0)

static inline void net_flag_timer(evl_timer_t *timer) {
    *(int *)timer->data = 1;
}

static inline void net_flag_close(evl_handle_t *handle) {
    *(int *)handle->data = 1;
}

/* Runs the loop for `ms` milliseconds; returns how many iterations that took. */
static inline long net_run_ms(evl_loop_t *loop, unsigned ms) {
    evl_timer_t timer;
    int fired = 0;
    int closed = 0;
    long turns = 0;
    CHECK_EQ(evl_timer_init(loop, &timer), 0);
    timer.data = &fired;
    CHECK_EQ(evl_timer_start(&timer, net_flag_timer, ms, 0), 0);
    *net_waiting() = "a timer in net_run_ms\n";
    while (!fired) {
        CHECK_GE(evl_run(loop, EVL_RUN_ONCE), 0);
        turns++;
    }
    timer.data = &closed;
    evl_close((evl_handle_t *)&timer, net_flag_close);
    NET_UNTIL(loop, closed);
    return turns;
}

/* ---- Bytes ----------------------------------------------------------------------------------- */

#define NET_PERIOD 65521
#define NET_CHUNK  65536

/* NET_CHUNK bytes of the test stream, from `offset` on. */
static inline const char *net_bytes(size_t offset) {
    static char table[NET_PERIOD + NET_CHUNK];
    if (table[1] == 0) {
        uint32_t state = 12345;
        for (size_t i = 0; i < NET_PERIOD; i++) {
            state = state * 1664525u + 1013904223u;
            table[i] = (char)(1 + (state >> 24) % 127);
        }
        for (size_t i = NET_PERIOD; i < sizeof(table); i++)
            table[i] = table[i - NET_PERIOD];
    }
    return table + offset % NET_PERIOD;
}

static inline void net_fill(char *bytes, size_t offset, size_t count) {
    for (size_t done = 0; done < count;) {
        size_t part = count - done < NET_CHUNK ? count - done : NET_CHUNK;
        memcpy(bytes + done, net_bytes(offset + done), part);
        done += part;
    }
}

/* Whether `bytes` continue the test stream at `offset`. */
static inline void net_check(const char *bytes, size_t offset, size_t count) {
    for (size_t done = 0; done < count;) {
        size_t part = count - done < NET_CHUNK ? count - done : NET_CHUNK;
        if (memcmp(bytes + done, net_bytes(offset + done), part) != 0)
            CHECK_MEM(bytes + done, net_bytes(offset + done), part);
        done += part;
    }
}

/* A buffer over `count` bytes of the test stream; at most NET_CHUNK of them. */
static inline evl_buf_t net_buf(size_t offset, size_t count) {
    CHECK_LE(count, NET_CHUNK);
    return evl_buf_init((char *)(uintptr_t)net_bytes(offset), (unsigned)count);
}

/* A small generator; equal seeds give equal tests. */
static inline uint32_t net_random(uint32_t *state, uint32_t below) {
    *state = *state * 1664525u + 1013904223u;
    return (uint32_t)(((uint64_t)(*state >> 4) * below) >> 28);
}

/* Notes what happened, in order: one letter each. */
typedef struct {
    char text[128];
    size_t length;
} net_log_t;

static inline void net_note(net_log_t *log, char letter) {
    CHECK_LT(log->length, sizeof(log->text) - 1);
    log->text[log->length++] = letter;
    log->text[log->length] = '\0';
}

/* ---- Sockets without the library ------------------------------------------------------------- */

static inline struct sockaddr_in net_addr(int port) {
    struct sockaddr_in addr;
    memset(&addr, 0, sizeof(addr));
    addr.sin_family = AF_INET;
    addr.sin_port = htons((uint16_t)port);
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return addr;
}

static inline const struct sockaddr *net_sa(const struct sockaddr_in *addr) {
    return (const struct sockaddr *)addr;
}

static inline const struct sockaddr *net_sa6(const struct sockaddr_in6 *addr) {
    return (const struct sockaddr *)addr;
}

static inline evl_os_sock_t net_raw_socket(void) {
    return os_socket(AF_INET, SOCK_STREAM);
}

static inline int net_raw_port(evl_os_sock_t fd) {
    struct sockaddr_storage name;
    struct sockaddr_in addr; /* an IPv6 address has its port in the same place */
    socklen_t length = sizeof(name);
    CHECK_EQ(getsockname(fd, (struct sockaddr *)&name, &length), 0);
    memcpy(&addr, &name, sizeof(addr));
    return ntohs(addr.sin_port);
}

/* Bound to a port that nobody else gets, and not listening: a connect to it is refused. */
static inline evl_os_sock_t net_raw_bound(int *port) {
    struct sockaddr_in addr = net_addr(0);
    evl_os_sock_t fd = net_raw_socket();
    CHECK_EQ(bind(fd, net_sa(&addr), sizeof(addr)), 0);
    *port = net_raw_port(fd);
    return fd;
}

static inline evl_os_sock_t net_raw_listen(int backlog, int *port) {
    evl_os_sock_t fd = net_raw_bound(port);
    CHECK_EQ(listen(fd, backlog), 0);
    return fd;
}

static inline evl_os_sock_t net_raw_connect(int port) {
    struct sockaddr_in addr = net_addr(port);
    evl_os_sock_t fd = net_raw_socket();
    int result;
    do
        result = connect(fd, net_sa(&addr), sizeof(addr));
    while (result != 0 && errno == EINTR);
    CHECK_EQ(result, 0);
    return fd;
}

static inline evl_os_sock_t net_raw_accept(evl_os_sock_t listener) {
    evl_os_sock_t fd;
    do
        fd = accept(listener, NULL, NULL);
    while (fd == OS_NO_SOCK && errno == EINTR);
    CHECK(fd != OS_NO_SOCK);
    return fd;
}

/* Two ends of a TCP connection, blocking. */
static inline void net_raw_pair(evl_os_sock_t fds[2]) {
    int port;
    evl_os_sock_t listener = net_raw_listen(1, &port);
    fds[0] = net_raw_connect(port);
    fds[1] = net_raw_accept(listener);
    os_close(listener);
}

/* A local pair whose first end has the given number, which must be free. */
static inline void net_raw_pair_at(evl_os_sock_t fds[2], evl_os_sock_t number) {
    CHECK_EQ(os_is_open(number), 0);
    os_socketpair_at(fds, number);
}

static inline void net_raw_nonblock(evl_os_sock_t fd) {
    os_nonblock(fd);
}

static inline void net_raw_write(evl_os_sock_t fd, const void *bytes, size_t count) {
    CHECK_EQ(os_send(fd, bytes, count), count);
}

/* Blocks until all of `count` bytes are there. */
static inline void net_raw_read(evl_os_sock_t fd, char *bytes, size_t count) {
    for (size_t done = 0; done < count;) {
        long got = os_recv(fd, bytes + done, count - done);
        CHECK_GT(got, 0);
        done += (size_t)got;
    }
}

/* Reads what is there now and checks that it continues the test stream at *offset. Returns -1 after
 * the end, else 0. */
static inline int net_raw_drain(evl_os_sock_t fd, size_t *offset) {
    static char bytes[NET_CHUNK];
    for (;;) {
        long got = os_recv_now(fd, bytes, sizeof(bytes));
        if (got == 0)
            return -1;
        if (got < 0) {
            CHECK(os_again());
            return 0;
        }
        net_check(bytes, *offset, (size_t)got);
        *offset += (size_t)got;
    }
}

/* Closes so that the peer gets a reset. */
static inline void net_raw_reset(evl_os_sock_t fd) {
    struct linger linger;
    linger.l_onoff = 1;
    linger.l_linger = 0;
    CHECK_EQ(os_setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)), 0);
    os_close(fd);
}

/* Waits until the kernel has something to read for `fd`, the end and errors included. */
static inline void net_raw_await(evl_os_sock_t fd) {
    *net_waiting() = "a raw socket to become readable\n";
    os_poll(fd, POLLIN, -1);
}

/* Whether the peer of a connection that was reset gets to know. */
static inline int net_tells_resets(void) {
    evl_os_sock_t fds[2];
    char byte;
    net_raw_pair(fds);
    net_raw_reset(fds[0]);
    net_raw_await(fds[1]);
    int told = os_recv(fds[1], &byte, 1) < 0;
    os_close(fds[1]);
    return told;
}

static inline void net_need_resets(void) {
    if (!net_tells_resets())
        SKIP("this system lets a reset look like an ordinary end");
}

static inline int net_raw_option(evl_os_sock_t fd, int level, int option) {
    int value = -1;
    CHECK_EQ(os_getsockopt(fd, level, option, &value, sizeof(value)), 0);
    return value;
}

/* ---- A loop ---------------------------------------------------------------------------------- */

typedef struct {
    evl_loop_t loop;
    int fds; /* open before the loop was made */
} net_t;

static inline void net_open(net_t *net) {
    net_watch();
    net_bytes(0);
    net->fds = test_open_fds();
    CHECK_EQ(evl_loop_init(&net->loop), 0);
}

static inline void net_close_one(evl_handle_t *handle, void *arg) {
    (void)arg;
    if (!evl_is_closing(handle))
        evl_close(handle, NULL);
}

/* Closes all handles and the loop. No descriptor may be left, nor a request outstanding. */
static inline void net_close(net_t *net) {
    *net_waiting() = "the loop to end\n";
    evl_walk(&net->loop, net_close_one, NULL);
    net_finish(&net->loop);
    CHECK_EQ(evl_loop_close(&net->loop), 0);
    CHECK_EQ(test_open_fds(), net->fds);
}

static inline evl_os_sock_t net_fileno(const void *handle) {
    evl_os_fd_t fd;
    CHECK_EQ(evl_fileno((const evl_handle_t *)handle, &fd), 0);
    return (evl_os_sock_t)fd;
}

#ifndef EVLOOP_NO_NET

/* ---- Reading --------------------------------------------------------------------------------- */

/* What net_on_read has seen; `data` of the stream points to it. */
typedef struct {
    size_t bytes; /* so far; they continue the test stream */
    long reads;   /* callbacks with bytes */
    long ends;    /* callbacks with an error or the end */
    int end;      /* the last of these */
} net_sink_t;

static inline void net_alloc(evl_handle_t *handle, size_t suggested, evl_buf_t *buf) {
    static char bytes[NET_CHUNK];
    (void)handle;
    CHECK_GT(suggested, 0);
    *buf = evl_buf_init(bytes, sizeof(bytes));
}

static inline void net_alloc_small(evl_handle_t *handle, size_t suggested, evl_buf_t *buf) {
    static char bytes[7];
    (void)handle;
    (void)suggested;
    *buf = evl_buf_init(bytes, sizeof(bytes));
}

static inline void net_on_read(evl_stream_t *stream, ssize_t nread, const evl_buf_t *buf) {
    net_sink_t *sink = (net_sink_t *)stream->data;
    if (nread > 0) {
        CHECK_LE(nread, buf->len);
        net_check(buf->base, sink->bytes, (size_t)nread);
        sink->bytes += (size_t)nread;
        sink->reads++;
    } else if (nread < 0) {
        sink->end = (int)nread;
        sink->ends++;
    }
}

/* ---- TCP ------------------------------------------------------------------------------------- */

static inline evl_stream_t *net_stream(evl_tcp_t *tcp) {
    return (evl_stream_t *)tcp;
}

static inline evl_handle_t *net_handle(evl_tcp_t *tcp) {
    return (evl_handle_t *)tcp;
}

/* Makes a handle of memory that holds anything. */
static inline void net_init(net_t *net, evl_tcp_t *tcp) {
    memset(tcp, 0xA5, sizeof(*tcp));
    CHECK_EQ(evl_tcp_init(&net->loop, tcp), 0);
    tcp->data = NULL;
}

/* A connected handle; returns its raw, blocking peer. */
static inline evl_os_sock_t net_half(net_t *net, evl_tcp_t *tcp) {
    evl_os_sock_t fds[2];
    net_raw_pair(fds);
    net_init(net, tcp);
    CHECK_EQ(evl_tcp_open(tcp, fds[0]), 0);
    return fds[1];
}

/* The same with a pair that holds little. */
static inline evl_os_sock_t net_half_tight(net_t *net, evl_tcp_t *tcp) {
    evl_os_sock_t fds[2];
    os_tight_pair(fds);
    net_init(net, tcp);
    CHECK_EQ(evl_tcp_open(tcp, fds[0]), 0);
    return fds[1];
}

/* Two handles, connected to each other. */
static inline void net_pair(net_t *net, evl_tcp_t *a, evl_tcp_t *b) {
    evl_os_sock_t fds[2];
    net_raw_pair(fds);
    net_init(net, a);
    net_init(net, b);
    CHECK_EQ(evl_tcp_open(a, fds[0]), 0);
    CHECK_EQ(evl_tcp_open(b, fds[1]), 0);
}

/* Binds to a port of the loopback and listens; returns the port. */
static inline int net_listen(net_t *net, evl_tcp_t *server, int backlog, evl_connection_cb cb) {
    struct sockaddr_in addr = net_addr(0);
    net_init(net, server);
    CHECK_EQ(evl_tcp_bind(server, net_sa(&addr), 0), 0);
    CHECK_EQ(evl_listen(net_stream(server), backlog, cb), 0);
    return net_raw_port(net_fileno(server));
}

static inline void net_connect(net_t *net, evl_tcp_t *tcp, evl_connect_t *req, int port,
                               evl_connect_cb cb) {
    struct sockaddr_in addr = net_addr(port);
    net_init(net, tcp);
    CHECK_EQ(evl_tcp_connect(req, tcp, net_sa(&addr), cb), 0);
}

/* A server that accepts what comes; `data` of the listener points to it. */
#define NET_GUESTS 256

typedef struct {
    evl_tcp_t guests[NET_GUESTS];
    int count;    /* accepted, from guests[0] on */
    long calls;   /* of the connection callback, with status 0 */
    long errors;  /* … with an error */
    int error;    /* the last one */
    int no_fetch; /* do not call evl_accept */
} net_hall_t;

static inline void net_admit(net_hall_t *hall, evl_stream_t *server) {
    evl_tcp_t *guest = &hall->guests[hall->count];
    CHECK_LT(hall->count, NET_GUESTS);
    CHECK_EQ(evl_tcp_init(server->loop, guest), 0);
    CHECK_EQ(evl_accept(server, net_stream(guest)), 0);
    hall->count++;
}

static inline void net_on_connection(evl_stream_t *server, int status) {
    net_hall_t *hall = (net_hall_t *)server->data;
    if (status != 0) {
        hall->errors++;
        hall->error = status;
        return;
    }
    hall->calls++;
    if (!hall->no_fetch)
        net_admit(hall, server);
}

/* Writes the test stream until the kernel takes no more; returns how much. For tight handles. */
static inline size_t net_stuff(evl_tcp_t *tcp) {
    size_t offset = 0;
    for (;;) {
        evl_buf_t buf = net_buf(offset, 4096);
        int count = evl_try_write(net_stream(tcp), &buf, 1);
        if (count == EVL_EAGAIN)
            return offset;
        CHECK_GT(count, 0);
        offset += (size_t)count;
    }
}

/* Runs the loop and reads at the raw peer until that has `want` bytes of the test stream. */
static inline void net_pull(net_t *net, evl_os_sock_t peer, size_t *got, size_t want) {
    *net_waiting() = "bytes to come out at the raw peer\n";
    while (*got < want) {
        CHECK_GE(net_turn(&net->loop), 0);
        if (net_raw_drain(peer, got) != 0)
            CHECK_EQ(*got, want);
    }
    CHECK_EQ(*got, want);
}

#endif /* !EVLOOP_NO_NET */

#endif
