/* Bytes that flow one way: the server receives all that comes (sink), or sends without end (source).
 * Libraries: evloop libuv libev libevent bare
 *
 * Both sides read and write 64 KiB at a time. A source has one write under way on each connection; what
 * it sends is there already and is not copied before the kernel does. Each byte of a stream is known by
 * its position: the receiving side checks one of each read. Counted are megabytes of 10^6 bytes by the
 * clock, which the server and the load share, and the server's processor time for one. */
#include "bench.h"
#include "net.h"

enum { MEGABYTES = 300, CHUNK = 65536, PERIOD = 251 };

static int is_source;
static char pattern[CHUNK + PERIOD]; /* the bytes of a stream, from any position on */

/* Byte n is n * 7, modulo 251: as load.c has it. */
static void make_pattern(void) {
    for (size_t i = 0; i < sizeof(pattern); i++)
        pattern[i] = (char)(i % PERIOD * 7 % PERIOD);
}

static inline void check_first(uint64_t position, const char *data) {
    bench_check(data[0] == pattern[position % PERIOD], "reading what was sent");
}

#if defined(BENCH_EVLOOP)

typedef struct {
    evl_tcp_t tcp;
    evl_write_t write;
    uint64_t position; /* in the stream */
} connection_t;

static evl_tcp_t listener;

static void on_close(evl_handle_t *handle) {
    free(handle);
}

static void end(connection_t *connection) {
    bench_check(net_is_over(), "a connection");
    evl_close((evl_handle_t *)&connection->tcp, on_close);
}

static void count(size_t size) {
    if (net_pass(size))
        evl_close((evl_handle_t *)&listener, NULL);
}

static void on_read(evl_stream_t *stream, ssize_t nread, const evl_buf_t *buf) {
    connection_t *connection = (connection_t *)stream;
    if (nread < 0)
        end(connection);
    if (nread <= 0)
        return;
    check_first(connection->position, buf->base);
    connection->position += (size_t)nread;
    count((size_t)nread);
}

static void on_write(evl_write_t *req, int status);

static void write_next(connection_t *connection) {
    evl_stream_t *stream = (evl_stream_t *)&connection->tcp;
    evl_buf_t buf = evl_buf_init(pattern + connection->position % PERIOD, CHUNK);
    bench_check(evl_write(&connection->write, stream, &buf, 1, on_write) == 0, "evl_write");
}

static void on_write(evl_write_t *req, int status) {
    connection_t *connection = (connection_t *)req->handle;
    if (status < 0) {
        end(connection);
        return;
    }
    connection->position += CHUNK;
    count(CHUNK);
    write_next(connection);
}

static void on_connection(evl_stream_t *server, int status) {
    connection_t *connection = (connection_t *)malloc(sizeof(*connection));
    bench_check(status == 0 && connection != NULL, "accepting");
    evl_stream_t *stream = (evl_stream_t *)&connection->tcp;
    connection->position = 0;
    bench_check(evl_tcp_init(server->loop, &connection->tcp) == 0, "evl_tcp_init");
    bench_check(evl_accept(server, stream) == 0, "evl_accept");
    if (is_source)
        write_next(connection);
    else
        bench_check(evl_read_start(stream, NULL, on_read) == 0, "evl_read_start");
}

static void serve(const char *load, unsigned connections) {
    evl_loop_t loop;
    evl_os_fd_t fd;
    bench_check(evl_loop_init(&loop) == 0, "evl_loop_init");
    int port = net_listen_evloop(&loop, &listener, on_connection);
    bench_check(evl_fileno((evl_handle_t *)&listener, &fd) == 0, "evl_fileno");
    net_fix_buffers(fd);
    net_start_load(load, port, connections, CHUNK, 0);
    evl_run(&loop, EVL_RUN_DEFAULT);
    bench_check(evl_loop_close(&loop) == 0, "evl_loop_close");
}

#elif defined(BENCH_LIBUV)

typedef struct {
    uv_tcp_t tcp;
    uv_write_t write;
    uint64_t position; /* in the stream */
} connection_t;

static uv_tcp_t listener;

static void on_close(uv_handle_t *handle) {
    free(handle);
}

static void end(connection_t *connection) {
    bench_check(net_is_over(), "a connection");
    uv_close((uv_handle_t *)&connection->tcp, on_close);
}

static void count(size_t size) {
    if (net_pass(size))
        uv_close((uv_handle_t *)&listener, NULL);
}

/* Nothing of what is read is kept: one buffer serves all, as evloop.h's does. */
static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf) {
    static char buffer[CHUNK];
    (void)handle;
    (void)suggested;
    *buf = uv_buf_init(buffer, CHUNK);
}

static void on_read(uv_stream_t *stream, ssize_t nread, const uv_buf_t *buf) {
    connection_t *connection = (connection_t *)stream;
    if (nread < 0)
        end(connection);
    if (nread <= 0)
        return;
    check_first(connection->position, buf->base);
    connection->position += (size_t)nread;
    count((size_t)nread);
}

static void on_write(uv_write_t *req, int status);

static void write_next(connection_t *connection) {
    uv_stream_t *stream = (uv_stream_t *)&connection->tcp;
    uv_buf_t buf = uv_buf_init(pattern + connection->position % PERIOD, CHUNK);
    bench_check(uv_write(&connection->write, stream, &buf, 1, on_write) == 0, "uv_write");
}

static void on_write(uv_write_t *req, int status) {
    connection_t *connection = (connection_t *)req->handle;
    if (status < 0) {
        end(connection);
        return;
    }
    connection->position += CHUNK;
    count(CHUNK);
    write_next(connection);
}

static void on_connection(uv_stream_t *server, int status) {
    connection_t *connection = (connection_t *)malloc(sizeof(*connection));
    bench_check(status == 0 && connection != NULL, "accepting");
    uv_stream_t *stream = (uv_stream_t *)&connection->tcp;
    connection->position = 0;
    bench_check(uv_tcp_init(server->loop, &connection->tcp) == 0, "uv_tcp_init");
    bench_check(uv_accept(server, stream) == 0, "uv_accept");
    if (is_source)
        write_next(connection);
    else
        bench_check(uv_read_start(stream, on_alloc, on_read) == 0, "uv_read_start");
}

static void serve(const char *load, unsigned connections) {
    uv_loop_t loop;
    uv_os_fd_t fd;
    bench_check(uv_loop_init(&loop) == 0, "uv_loop_init");
    int port = net_listen_libuv(&loop, &listener, on_connection);
    bench_check(uv_fileno((uv_handle_t *)&listener, &fd) == 0, "uv_fileno");
    net_fix_buffers(fd);
    net_start_load(load, port, connections, CHUNK, 0);
    uv_run(&loop, UV_RUN_DEFAULT);
    bench_check(uv_loop_close(&loop) == 0, "uv_loop_close");
}

#elif defined(BENCH_LIBEVENT)

static struct evconnlistener *listener;

static void count(size_t size) {
    if (net_pass(size))
        evconnlistener_free(listener);
}

static void on_read(struct bufferevent *bev, void *position) {
    struct evbuffer *input = bufferevent_get_input(bev);
    size_t size = evbuffer_get_length(input);
    check_first(*(uint64_t *)position, (const char *)evbuffer_pullup(input, 1));
    bench_check(evbuffer_drain(input, size) == 0, "evbuffer_drain");
    *(uint64_t *)position += size;
    count(size);
}

static void write_next(struct bufferevent *bev, uint64_t position) {
    const char *data = pattern + position % PERIOD;
    bench_check(evbuffer_add_reference(bufferevent_get_output(bev), data, CHUNK, NULL, NULL) == 0,
                "evbuffer_add_reference");
}

/* The output has drained. */
static void on_write(struct bufferevent *bev, void *position) {
    *(uint64_t *)position += CHUNK;
    count(CHUNK);
    write_next(bev, *(uint64_t *)position);
}

static void on_end(struct bufferevent *bev, short events, void *position) {
    (void)events;
    bench_check(net_is_over(), "a connection");
    bufferevent_free(bev);
    free(position);
}

static void on_connection(struct evconnlistener *server, evutil_socket_t fd,
                          struct sockaddr *address, int length, void *arg) {
    uint64_t *position = (uint64_t *)calloc(1, sizeof(*position));
    struct bufferevent *bev =
        bufferevent_socket_new(evconnlistener_get_base(server), fd, BEV_OPT_CLOSE_ON_FREE);
    (void)address;
    (void)length;
    (void)arg;
    bench_check(position != NULL && bev != NULL, "bufferevent_socket_new");
    bench_check(bufferevent_set_max_single_read(bev, CHUNK) == 0, "max_single_read");
    bench_check(bufferevent_set_max_single_write(bev, CHUNK) == 0, "max_single_write");
    bufferevent_setcb(bev, is_source ? NULL : on_read, is_source ? on_write : NULL, on_end,
                      position);
    if (is_source)
        write_next(bev, 0);
    bench_check(bufferevent_disable(bev, EV_READ | EV_WRITE) == 0, "bufferevent_disable");
    bench_check(bufferevent_enable(bev, is_source ? EV_WRITE : EV_READ) == 0, "bufferevent_enable");
}

static void serve(const char *load, unsigned connections) {
    struct event_base *base = event_base_new();
    bench_check(base != NULL, "event_base_new");
    listener = net_listen_libevent(base, on_connection);
    net_fix_buffers(evconnlistener_get_fd(listener));
    net_start_load(load, net_port_of(evconnlistener_get_fd(listener)), connections, CHUNK, 0);
    bench_check(event_base_dispatch(base) >= 0, "event_base_dispatch");
    event_base_free(base);
}

#else

enum { AT_ONCE = 32 }; /* as libuv has it */

static void stop_listening(void);

/* Reads or writes once. Returns the bytes, 0: it would have to wait, -1: the connection has ended. */
static inline ssize_t transfer_once(int fd, uint64_t *position) {
    static char buffer[CHUNK];
    ssize_t size = is_source ? write(fd, pattern + *position % PERIOD, CHUNK)
                             : read(fd, buffer, sizeof(buffer));
    if (size < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    bench_check(size > 0 || net_is_over(), "a connection");
    if (size <= 0)
        return -1;
    if (!is_source)
        check_first(*position, buffer);
    *position += (uint64_t)size;
    if (net_pass((size_t)size))
        stop_listening();
    return size;
}

/* As long as full buffers come or go, but not for ever: there may be other connections. Returns -1 when
 * this one has ended. */
static int transfer(int fd, uint64_t *position) {
    ssize_t size = CHUNK;
    for (int i = 0; i < AT_ONCE && size == CHUNK; i++)
        size = transfer_once(fd, position);
    return size < 0 ? -1 : 0;
}

#if defined(BENCH_LIBEV)

typedef struct {
    ev_io io;
    uint64_t position; /* in the stream */
} connection_t;

static struct ev_loop *loop;
static ev_io listener;

static void stop_listening(void) {
    net_close_libev(loop, &listener);
}

static void on_ready(struct ev_loop *running, ev_io *io, int events) {
    connection_t *connection = (connection_t *)io;
    (void)events;
    if (transfer(io->fd, &connection->position) == 0)
        return;
    ev_io_stop(running, io);
    close(io->fd);
    free(connection);
}

static void on_connection(struct ev_loop *running, ev_io *io, int events) {
    int fd = net_accept(io->fd);
    (void)events;
    if (fd < 0)
        return;
    connection_t *connection = (connection_t *)malloc(sizeof(*connection));
    bench_check(connection != NULL, "malloc");
    connection->position = 0;
    ev_io_init(&connection->io, on_ready, fd, is_source ? EV_WRITE : EV_READ);
    ev_io_start(running, &connection->io);
}

static void serve(const char *load, unsigned connections) {
    loop = ev_loop_new(EVFLAG_AUTO);
    bench_check(loop != NULL, "ev_loop_new");
    int port = net_listen_libev(loop, &listener, on_connection);
    net_fix_buffers(listener.fd);
    net_start_load(load, port, connections, CHUNK, 0);
    ev_run(loop, 0);
    ev_loop_destroy(loop);
}

#else

typedef struct {
    int fd;
    uint64_t position; /* in the stream */
} connection_t;

static void stop_listening(void) {
    net_close(net_listener);
}

static void on_ready(void *data, uint32_t events) {
    connection_t *connection = (connection_t *)data;
    (void)events;
    if (transfer(connection->fd, &connection->position) == 0)
        return;
    net_close(connection->fd);
    free(connection);
}

static void on_connection(int fd) {
    connection_t *connection = (connection_t *)malloc(sizeof(*connection));
    bench_check(connection != NULL, "malloc");
    connection->fd = fd;
    connection->position = 0;
    net_watch(fd, is_source ? EPOLLOUT : EPOLLIN, connection);
}

static void serve(const char *load, unsigned connections) {
    int port = net_listen_bare();
    net_fix_buffers(net_listener);
    net_start_load(load, port, connections, CHUNK, 0);
    net_serve_bare(on_connection, on_ready);
}

#endif
#endif

static void run(const char *name, int source, unsigned connections) {
    uint64_t total = bench_scaled(MEGABYTES * 10u) * (uint64_t)100000;
    if (!bench_wants(name))
        return;
    is_source = source;
    net_begin(total, total / 5); /* enough to fill all buffers */
    serve(source ? "receive" : "send", connections);
    net_end_load();
    bench_report(name, "MB/s", 1e3 / net_wall_ns());
    bench_report(name, "ns CPU/MB", net_cpu_ns() * 1e6);
}

int main(int argc, char **argv) {
    bench_begin(argc, argv);
    make_pattern();
    run("sink, 1 connection", 0, 1);
    run("sink, 100 connections", 0, 100);
    run("source, 1 connection", 1, 1);
    run("source, 100 connections", 1, 100);
    return 0;
}
