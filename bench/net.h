/* What the network benchmarks share: a server, which is what is measured, is this program; its load is
 * another one (load.c), which this one starts, so that its time, its system calls and its instructions
 * don't count.
 *
 * A run goes like this: listen on a port of 127.0.0.1, net_begin(), net_start_load(), run the loop. The
 * server calls net_pass() for what it has done. Some of it warms up; then the clock and the processor
 * time are noted; when the rest is done they are noted again, and the load is ended. net_pass() then says
 * once that it is over: the server closes its listening socket, its connections end because the load is
 * gone, and its loop ends because nothing is left. net_end_load() sees to it that all was well. */
#ifndef BENCH_NET_H
#define BENCH_NET_H

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>

#if defined(BENCH_LIBEVENT)
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/listener.h>
#endif

enum { NET_BACKLOG = 4096, NET_BUFFER = 128 * 1024 };

typedef struct {
    double wall_ns, cpu_ns;
} net_time_t;

static struct {
    int64_t left;     /* to do until the next mark */
    int64_t measured; /* between the two marks */
    int marks;
    net_time_t begin, end;
    pid_t load;
} net;

/* ---- Counting ---- */

static inline net_time_t net_now(void) {
    struct rusage usage;
    net_time_t now;
    bench_check(getrusage(RUSAGE_SELF, &usage) == 0, "getrusage");
    now.wall_ns = (double)bench_now_ns();
    now.cpu_ns = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e9 +
                 (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e3;
    return now;
}

/* The first mark begins what counts, the second one ends it. */
static __attribute__((noinline, unused)) int net_mark(void) {
    net.marks++;
    if (net.marks == 1) {
        net.left = net.measured;
        net.begin = net_now();
    } else if (net.marks == 2) {
        net.end = net_now();
        net.measured -= net.left; /* what came at once may be more than was left */
        signal(SIGCHLD, SIG_DFL);
        kill(net.load, SIGTERM);
        return 1;
    }
    return 0;
}

/* Counts what has been done: requests, connections, bytes. Returns 1 once, when all is done. */
static inline int net_pass(size_t amount) {
    net.left -= (int64_t)amount;
    return net.left > 0 ? 0 : net_mark();
}

static inline int net_is_over(void) {
    return net.marks >= 2;
}

/* Nanoseconds for each of what was counted, by the clock and of the server's processor time. */
static inline double net_wall_ns(void) {
    return (net.end.wall_ns - net.begin.wall_ns) / (double)net.measured;
}

static inline double net_cpu_ns(void) {
    return (net.end.cpu_ns - net.begin.cpu_ns) / (double)net.measured;
}

/* ---- Places ---- */

/* The server and its load share a processor, and so take turns: whether the kernel happens to put them on
 * one or on two, and what it costs there to wake the other one, is more than what is to be measured.
 * BENCH_PLACE=apart puts them on two; with BENCH_PLACE=free it is up to the kernel. */
static inline void net_place(int is_load) {
    static cpu_set_t usable;
    const char *place = getenv("BENCH_PLACE");
    int apart = place != NULL && strcmp(place, "apart") == 0;
    if (place != NULL && strcmp(place, "free") == 0)
        return;
    if (CPU_COUNT(&usable) == 0)
        bench_check(sched_getaffinity(0, sizeof(usable), &usable) == 0, "sched_getaffinity");
    cpu_set_t one = bench_processor(&usable, apart && is_load);
    bench_check(sched_setaffinity(0, sizeof(one), &one) == 0, "sched_setaffinity");
}

/* ---- The load ---- */

static inline void net_on_load_end(int signal_number) {
    static const char message[] = "bench: the load has ended too early\n";
    (void)signal_number;
    (void)!write(STDERR_FILENO, message, sizeof(message) - 1);
    _exit(1);
}

static inline void net_begin(uint64_t total, uint64_t warm_up) {
    memset(&net, 0, sizeof(net));
    net.left = (int64_t)warm_up;
    net.measured = (int64_t)(total - warm_up);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD, net_on_load_end);
    net_place(0);
}

/* The load lies beside this program. It is executed, not only forked: tools that watch this program,
 * such as strace or callgrind, leave it alone. */
static inline void net_start_load(const char *kind, int port, unsigned connections, size_t bytes,
                                  unsigned idle) {
    char path[4096], numbers[4][24];
    const char *slash = strrchr(bench_program, '/');
    int length = slash == NULL ? 1 : (int)(slash - bench_program);
    snprintf(path, sizeof(path), "%.*s/load", length, slash == NULL ? "." : bench_program);
    snprintf(numbers[0], sizeof(numbers[0]), "%d", port);
    snprintf(numbers[1], sizeof(numbers[1]), "%u", connections);
    snprintf(numbers[2], sizeof(numbers[2]), "%zu", bytes);
    snprintf(numbers[3], sizeof(numbers[3]), "%u", idle);
    net.load = fork();
    bench_check(net.load >= 0, "fork");
    if (net.load > 0)
        return;
    net_place(1);
    execl(path, "load", kind, numbers[0], numbers[1], numbers[2], numbers[3], (char *)NULL);
    fprintf(stderr, "%s: cannot execute %s (errno %d)\n", bench_program, path, errno);
    _exit(1);
}

static inline void net_end_load(void) {
    int status = 0;
    bench_check(net_is_over(), "serving until all was done");
    bench_check(waitpid(net.load, &status, 0) == net.load, "waitpid");
    bench_check(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM, "the load");
}

/* ---- Sockets ---- */

static inline struct sockaddr_in net_any_port(void) {
    struct sockaddr_in address;
    memset(&address, 0, sizeof(address));
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static inline int net_port_of(int fd) {
    struct sockaddr_in address;
    socklen_t length = sizeof(address);
    bench_check(getsockname(fd, (struct sockaddr *)&address, &length) == 0, "getsockname");
    return ntohs(address.sin_port);
}

static inline void net_set_nodelay(int fd) {
    int on = 1;
    bench_check(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == 0, "TCP_NODELAY");
}

/* What a listening socket has set, the sockets that it accepts have too. Fixed buffers: else the kernel
 * lets them grow by what it sees of the traffic, and megabytes that nobody has read would count. */
static inline void net_fix_buffers(int fd) {
    int size = NET_BUFFER;
    bench_check(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)) == 0, "SO_SNDBUF");
    bench_check(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)) == 0, "SO_RCVBUF");
}

/* A listening socket made by hand, as the libraries make theirs. */
static inline int net_listen(void) {
    struct sockaddr_in address = net_any_port();
    int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bench_check(fd >= 0, "socket");
    bench_check(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0, "SO_REUSEADDR");
    bench_check(bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0, "bind");
    bench_check(listen(fd, NET_BACKLOG) == 0, "listen");
    return fd;
}

/* The next connection that waits, or -1: there is none. By hand one is accepted for each event: asking
 * until there is none costs more, because the kernel makes a socket and a file before it looks. */
static inline int net_accept(int listener) {
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    bench_check(fd >= 0 || errno == EAGAIN || errno == ECONNABORTED, "accept4");
    return fd;
}

/* ---- Listening with a library ---- */

#if defined(BENCH_EVLOOP)

/* Returns the port, as its relatives do. */
static inline int net_listen_evloop(evl_loop_t *loop, evl_tcp_t *listener, evl_connection_cb cb) {
    struct sockaddr_in address = net_any_port();
    int length = sizeof(address);
    bench_check(evl_tcp_init(loop, listener) == 0, "evl_tcp_init");
    bench_check(evl_tcp_bind(listener, (struct sockaddr *)&address, 0) == 0, "evl_tcp_bind");
    bench_check(evl_listen((evl_stream_t *)listener, NET_BACKLOG, cb) == 0, "evl_listen");
    bench_check(evl_tcp_getsockname(listener, (struct sockaddr *)&address, &length) == 0,
                "evl_tcp_getsockname");
    return ntohs(address.sin_port);
}

#elif defined(BENCH_LIBUV)

static inline int net_listen_libuv(uv_loop_t *loop, uv_tcp_t *listener, uv_connection_cb cb) {
    struct sockaddr_in address = net_any_port();
    int length = sizeof(address);
    bench_check(uv_tcp_init(loop, listener) == 0, "uv_tcp_init");
    bench_check(uv_tcp_bind(listener, (struct sockaddr *)&address, 0) == 0, "uv_tcp_bind");
    bench_check(uv_listen((uv_stream_t *)listener, NET_BACKLOG, cb) == 0, "uv_listen");
    bench_check(uv_tcp_getsockname(listener, (struct sockaddr *)&address, &length) == 0,
                "uv_tcp_getsockname");
    return ntohs(address.sin_port);
}

#elif defined(BENCH_LIBEVENT)

static inline struct evconnlistener *net_listen_libevent(struct event_base *base,
                                                         evconnlistener_cb cb) {
    struct sockaddr_in address = net_any_port();
    struct evconnlistener *listener = evconnlistener_new_bind(
        base, cb, NULL, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_REUSEABLE,
        NET_BACKLOG, (struct sockaddr *)&address, sizeof(address));
    bench_check(listener != NULL, "evconnlistener_new_bind");
    return listener;
}

#elif defined(BENCH_LIBEV)

typedef void net_ev_cb(struct ev_loop *loop, ev_io *io, int events);

static inline int net_listen_libev(struct ev_loop *loop, ev_io *io, net_ev_cb *cb) {
    ev_io_init(io, cb, net_listen(), EV_READ);
    ev_io_start(loop, io);
    return net_port_of(io->fd);
}

static inline void net_close_libev(struct ev_loop *loop, ev_io *io) {
    ev_io_stop(loop, io);
    close(io->fd);
}

#elif defined(BENCH_BARE)

/* ---- Serving by hand, with epoll ---- */

enum { NET_BATCH = 1024 }; /* as many events as libuv asks for at once */

static int net_epoll, net_listener;
static unsigned net_sockets; /* that are watched, the listening one too */

static inline void net_control(int op, int fd, uint32_t events, void *data) {
    struct epoll_event event;
    event.events = events;
    event.data.ptr = data;
    bench_check(epoll_ctl(net_epoll, op, fd, &event) == 0, "epoll_ctl");
}

static inline void net_watch(int fd, uint32_t events, void *data) {
    net_control(EPOLL_CTL_ADD, fd, events, data);
    net_sockets++;
}

static inline void net_close(int fd) {
    close(fd);
    net_sockets--;
}

static inline int net_listen_bare(void) {
    net_epoll = epoll_create1(EPOLL_CLOEXEC);
    bench_check(net_epoll >= 0, "epoll_create1");
    net_listener = net_listen();
    net_watch(net_listener, EPOLLIN, NULL);
    return net_port_of(net_listener);
}

/* Serves until all sockets are closed; what is watched without data is the listening one. */
static inline void net_serve_bare(void (*on_connection)(int fd),
                                  void (*on_ready)(void *data, uint32_t events)) {
    static struct epoll_event ready[NET_BATCH];
    while (net_sockets > 0) {
        int count = epoll_wait(net_epoll, ready, NET_BATCH, -1);
        bench_check(count >= 0 || errno == EINTR, "epoll_wait");
        for (int i = 0; i < count; i++) {
            if (ready[i].data.ptr != NULL) {
                on_ready(ready[i].data.ptr, ready[i].events);
            } else if (!net_is_over()) {
                int fd = net_accept(net_listener);
                if (fd >= 0)
                    on_connection(fd);
            }
        }
    }
    close(net_epoll);
}

#endif

#endif /* BENCH_NET_H */
