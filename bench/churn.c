/* Short connections: each is accepted, asks once with 64 bytes, gets them back and is closed.
 * Libraries: evloop libuv libev libevent bare
 *
 * The server closes first, as soon as its answer has left, as a server of HTTP/1.0 does. The load takes
 * the answer and the end, checks both, and closes with a reset, so that the server's half does not stay
 * behind in TIME_WAIT: tens of thousands of those would make the kernel search for free ports longer and
 * longer, at last in vain, and the libraries that come last would pay for those that came first.
 *
 * Counted is the server's processor time for a connection, and beside it the time by the clock. */
#include "bench.h"
#include "net.h"

/* There is room for more than a request: a read that fills its buffer would be followed by another. */
enum { CONNECTIONS = 10000, REQUEST = 64, ROOM = 256 };

#if defined(BENCH_EVLOOP)

typedef struct {
    evl_tcp_t tcp;
    evl_write_t write;
    size_t size;
    char data[ROOM];
} connection_t;

static evl_tcp_t listener;

static void on_close(evl_handle_t *handle) {
    free(handle);
    if (net_pass(1))
        evl_close((evl_handle_t *)&listener, NULL);
}

static void on_write(evl_write_t *req, int status) {
    bench_check(status == 0 || net_is_over(), "evl_write");
    evl_close((evl_handle_t *)req->handle, on_close);
}

static void on_read(evl_stream_t *stream, ssize_t nread, const evl_buf_t *buf) {
    connection_t *connection = (connection_t *)stream;
    evl_buf_t answer = evl_buf_init(connection->data, REQUEST);
    if (nread < 0) {
        bench_check(net_is_over(), "reading a request");
        evl_close((evl_handle_t *)stream, on_close);
        return;
    }
    bench_check((size_t)nread <= REQUEST - connection->size, "reading no more than a request");
    memcpy(connection->data + connection->size, buf->base, (size_t)nread);
    connection->size += (size_t)nread;
    if (nread > 0 && connection->size == REQUEST)
        bench_check(evl_write(&connection->write, stream, &answer, 1, on_write) == 0, "evl_write");
}

static void on_connection(evl_stream_t *server, int status) {
    connection_t *connection = (connection_t *)malloc(sizeof(*connection));
    bench_check(status == 0 && connection != NULL, "accepting");
    evl_stream_t *stream = (evl_stream_t *)&connection->tcp;
    connection->size = 0;
    bench_check(evl_tcp_init(server->loop, &connection->tcp) == 0, "evl_tcp_init");
    bench_check(evl_accept(server, stream) == 0, "evl_accept");
    bench_check(evl_read_start(stream, NULL, on_read) == 0, "evl_read_start");
}

static void serve(unsigned connections) {
    evl_loop_t loop;
    bench_check(evl_loop_init(&loop) == 0, "evl_loop_init");
    int port = net_listen_evloop(&loop, &listener, on_connection);
    net_start_load("churn", port, connections, REQUEST, 0);
    evl_run(&loop, EVL_RUN_DEFAULT);
    bench_check(evl_loop_close(&loop) == 0, "evl_loop_close");
}

#elif defined(BENCH_LIBUV)

typedef struct {
    uv_tcp_t tcp;
    uv_write_t write;
    size_t size;
    char data[ROOM];
} connection_t;

static uv_tcp_t listener;

static void on_close(uv_handle_t *handle) {
    free(handle);
    if (net_pass(1))
        uv_close((uv_handle_t *)&listener, NULL);
}

static void on_write(uv_write_t *req, int status) {
    bench_check(status == 0 || net_is_over(), "uv_write");
    uv_close((uv_handle_t *)req->handle, on_close);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf) {
    connection_t *connection = (connection_t *)handle;
    (void)suggested;
    *buf = uv_buf_init(connection->data + connection->size, (unsigned)(ROOM - connection->size));
}

static void on_read(uv_stream_t *stream, ssize_t nread, const uv_buf_t *buf) {
    connection_t *connection = (connection_t *)stream;
    uv_buf_t answer = uv_buf_init(connection->data, REQUEST);
    if (nread < 0) {
        bench_check(net_is_over(), "reading a request");
        uv_close((uv_handle_t *)stream, on_close);
        return;
    }
    bench_check((size_t)nread <= REQUEST - connection->size, "reading no more than a request");
    (void)buf;
    connection->size += (size_t)nread;
    if (nread > 0 && connection->size == REQUEST)
        bench_check(uv_write(&connection->write, stream, &answer, 1, on_write) == 0, "uv_write");
}

static void on_connection(uv_stream_t *server, int status) {
    connection_t *connection = (connection_t *)malloc(sizeof(*connection));
    bench_check(status == 0 && connection != NULL, "accepting");
    uv_stream_t *stream = (uv_stream_t *)&connection->tcp;
    connection->size = 0;
    bench_check(uv_tcp_init(server->loop, &connection->tcp) == 0, "uv_tcp_init");
    bench_check(uv_accept(server, stream) == 0, "uv_accept");
    bench_check(uv_read_start(stream, on_alloc, on_read) == 0, "uv_read_start");
}

static void serve(unsigned connections) {
    uv_loop_t loop;
    bench_check(uv_loop_init(&loop) == 0, "uv_loop_init");
    int port = net_listen_libuv(&loop, &listener, on_connection);
    net_start_load("churn", port, connections, REQUEST, 0);
    uv_run(&loop, UV_RUN_DEFAULT);
    bench_check(uv_loop_close(&loop) == 0, "uv_loop_close");
}

#elif defined(BENCH_LIBEVENT)

static struct evconnlistener *listener;

static void end(struct bufferevent *connection) {
    bufferevent_free(connection);
    if (net_pass(1))
        evconnlistener_free(listener);
}

/* The output has drained. */
static void on_write(struct bufferevent *connection, void *arg) {
    (void)arg;
    end(connection);
}

static void on_end(struct bufferevent *connection, short events, void *arg) {
    (void)events;
    (void)arg;
    bench_check(net_is_over(), "reading a request");
    end(connection);
}

static void on_read(struct bufferevent *connection, void *arg) {
    struct evbuffer *input = bufferevent_get_input(connection);
    size_t size = evbuffer_get_length(input);
    (void)arg;
    bench_check(size <= REQUEST, "reading no more than a request");
    if (size < REQUEST)
        return;
    bufferevent_setcb(connection, on_read, on_write, on_end, NULL);
    bench_check(bufferevent_write_buffer(connection, input) == 0, "bufferevent_write_buffer");
}

static void on_connection(struct evconnlistener *server, evutil_socket_t fd,
                          struct sockaddr *address, int length, void *arg) {
    struct bufferevent *connection =
        bufferevent_socket_new(evconnlistener_get_base(server), fd, BEV_OPT_CLOSE_ON_FREE);
    (void)address;
    (void)length;
    (void)arg;
    bench_check(connection != NULL, "bufferevent_socket_new");
    bufferevent_setcb(connection, on_read, NULL, on_end, NULL);
    bench_check(bufferevent_enable(connection, EV_READ | EV_WRITE) == 0, "bufferevent_enable");
}

static void serve(unsigned connections) {
    struct event_base *base = event_base_new();
    bench_check(base != NULL, "event_base_new");
    listener = net_listen_libevent(base, on_connection);
    net_start_load("churn", net_port_of(evconnlistener_get_fd(listener)), connections, REQUEST, 0);
    bench_check(event_base_dispatch(base) >= 0, "event_base_dispatch");
    event_base_free(base);
}

#else

typedef struct {
#if defined(BENCH_LIBEV)
    ev_io io;
#else
    int fd;
#endif
    size_t size, sent;
    char data[ROOM];
} connection_t;

enum { WANTS_READ, WANTS_WRITE, WANTS_END };

/* Reads, and once the request is complete answers, until that has to wait. */
static int serve_once(connection_t *connection, int fd) {
    ssize_t count;
    if (connection->size < REQUEST) {
        count = read(fd, connection->data + connection->size, ROOM - connection->size);
        if (count < 0 && (errno == EAGAIN || errno == EINTR))
            return WANTS_READ;
        bench_check(count > 0 || net_is_over(), "reading a request");
        if (count <= 0)
            return WANTS_END;
        connection->size += (size_t)count;
        bench_check(connection->size <= REQUEST, "reading no more than a request");
        if (connection->size < REQUEST)
            return WANTS_READ;
    }
    count = write(fd, connection->data + connection->sent, REQUEST - connection->sent);
    if (count < 0 && (errno == EAGAIN || errno == EINTR))
        return WANTS_WRITE;
    bench_check(count > 0 || net_is_over(), "writing an answer");
    connection->sent += count < 0 ? REQUEST : (size_t)count;
    return connection->sent < REQUEST ? WANTS_WRITE : WANTS_END;
}

static connection_t *new_connection(void) {
    connection_t *connection = (connection_t *)malloc(sizeof(*connection));
    bench_check(connection != NULL, "malloc");
    connection->size = connection->sent = 0;
    return connection;
}

#if defined(BENCH_LIBEV)

static ev_io listener;

static void end(struct ev_loop *loop, connection_t *connection) {
    ev_io_stop(loop, &connection->io);
    close(connection->io.fd);
    free(connection);
    if (net_pass(1))
        net_close_libev(loop, &listener);
}

static void on_ready(struct ev_loop *loop, ev_io *io, int events) {
    connection_t *connection = (connection_t *)io;
    int wants = serve_once(connection, io->fd);
    if (wants == WANTS_END)
        end(loop, connection);
    else if (wants == WANTS_WRITE && (events & EV_READ)) {
        ev_io_stop(loop, io);
        ev_io_set(io, io->fd, EV_WRITE);
        ev_io_start(loop, io);
    }
}

static void on_connection(struct ev_loop *loop, ev_io *io, int events) {
    int fd = net_accept(io->fd);
    (void)events;
    if (fd < 0)
        return;
    connection_t *connection = new_connection();
    ev_io_init(&connection->io, on_ready, fd, EV_READ);
    ev_io_start(loop, &connection->io);
}

static void serve(unsigned connections) {
    struct ev_loop *loop = ev_loop_new(EVFLAG_AUTO);
    bench_check(loop != NULL, "ev_loop_new");
    int port = net_listen_libev(loop, &listener, on_connection);
    net_start_load("churn", port, connections, REQUEST, 0);
    ev_run(loop, 0);
    ev_loop_destroy(loop);
}

#else

static void end(connection_t *connection) {
    net_close(connection->fd);
    free(connection);
    if (net_pass(1))
        net_close(net_listener);
}

static void on_ready(void *data, uint32_t events) {
    connection_t *connection = (connection_t *)data;
    int wants = serve_once(connection, connection->fd);
    if (wants == WANTS_END)
        end(connection);
    else if (wants == WANTS_WRITE && (events & EPOLLIN))
        net_control(EPOLL_CTL_MOD, connection->fd, EPOLLOUT, connection);
}

static void on_connection(int fd) {
    connection_t *connection = new_connection();
    connection->fd = fd;
    net_watch(fd, EPOLLIN, connection);
}

static void serve(unsigned connections) {
    int port = net_listen_bare();
    net_start_load("churn", port, connections, REQUEST, 0);
    net_serve_bare(on_connection, on_ready);
}

#endif
#endif

static void run(const char *name, unsigned connections) {
    uint64_t total = bench_scaled(CONNECTIONS);
    if (!bench_wants(name))
        return;
    net_begin(total, total / 10);
    serve(connections);
    net_end_load();
    bench_report(name, "ns CPU", net_cpu_ns());
    bench_report(name, "ns", net_wall_ns());
}

int main(int argc, char **argv) {
    bench_begin(argc, argv);
    run("1 at a time", 1);
    run("50 at a time", 50);
    return 0;
}
