/* A server that sends back what it is sent: of echo.c, and of idle.c, where most connections are silent.
 *
 * Whatever comes goes back, also when the kernel takes it in parts only. A connection has no buffer of
 * its own while nothing is under way. Where a write takes its time by the library's rules, as it does
 * with evloop.h and libuv, each one takes its request and its buffer from a list of free ones. */
#ifndef BENCH_ECHO_H
#define BENCH_ECHO_H

#include <stddef.h>

enum { ECHO_CHUNK = 4096 }; /* as much as libevent reads at once */

/* After each connection that has been accepted and is being read from. */
static void (*echo_on_accept)(void);

static inline void echo_accepted(void) {
    if (echo_on_accept != NULL)
        echo_on_accept();
}

#if defined(BENCH_EVLOOP)

typedef struct echo_write {
    evl_write_t req;
    struct echo_write *next;
    char data[ECHO_CHUNK];
} echo_write_t;

static evl_tcp_t echo_listener;
static echo_write_t *echo_free_writes;

static inline echo_write_t *echo_take_write(void) {
    echo_write_t *write = echo_free_writes;
    if (write != NULL)
        echo_free_writes = write->next;
    else
        write = (echo_write_t *)malloc(sizeof(*write));
    bench_check(write != NULL, "malloc");
    return write;
}

static inline void echo_give_write(echo_write_t *write) {
    write->next = echo_free_writes;
    echo_free_writes = write;
}

static void echo_on_close(evl_handle_t *handle) {
    free(handle);
}

static void echo_on_write(evl_write_t *req, int status) {
    bench_check(status == 0 || net_is_over(), "evl_write");
    echo_give_write((echo_write_t *)req);
}

/* Once the load is gone, writes fail. */
static inline void echo_send(evl_stream_t *stream, echo_write_t *write, size_t size) {
    evl_buf_t buf = evl_buf_init(write->data, (unsigned)size);
    int err = evl_write(&write->req, stream, &buf, 1, echo_on_write);
    bench_check(err == 0 || net_is_over(), "evl_write");
    if (err != 0)
        echo_give_write(write);
}

/* The buffer is lent until this returns: what goes back is copied. */
static void echo_on_read(evl_stream_t *stream, ssize_t nread, const evl_buf_t *buf) {
    if (nread < 0) {
        evl_close((evl_handle_t *)stream, echo_on_close);
        return;
    }
    for (size_t done = 0; done < (size_t)nread;) {
        size_t size = (size_t)nread - done < ECHO_CHUNK ? (size_t)nread - done : ECHO_CHUNK;
        echo_write_t *write = echo_take_write();
        memcpy(write->data, buf->base + done, size);
        echo_send(stream, write, size);
        done += size;
    }
    if (net_pass((size_t)nread))
        evl_close((evl_handle_t *)&echo_listener, NULL);
}

static void echo_on_connection(evl_stream_t *server, int status) {
    evl_tcp_t *tcp = (evl_tcp_t *)malloc(sizeof(*tcp));
    bench_check(status == 0 && tcp != NULL, "accepting");
    bench_check(evl_tcp_init(server->loop, tcp) == 0, "evl_tcp_init");
    bench_check(evl_accept(server, (evl_stream_t *)tcp) == 0, "evl_accept");
    bench_check(evl_tcp_nodelay(tcp, 1) == 0, "evl_tcp_nodelay");
    bench_check(evl_read_start((evl_stream_t *)tcp, NULL, echo_on_read) == 0, "evl_read_start");
    echo_accepted();
}

static void echo_serve(unsigned connections, size_t bytes, unsigned idle) {
    evl_loop_t loop;
    bench_check(evl_loop_init(&loop) == 0, "evl_loop_init");
    int port = net_listen_evloop(&loop, &echo_listener, echo_on_connection);
    net_start_load("echo", port, connections, bytes, idle);
    evl_run(&loop, EVL_RUN_DEFAULT);
    bench_check(evl_loop_close(&loop) == 0, "evl_loop_close");
}

#elif defined(BENCH_LIBUV)

typedef struct echo_write {
    uv_write_t req;
    struct echo_write *next;
    char data[ECHO_CHUNK];
} echo_write_t;

static uv_tcp_t echo_listener;
static echo_write_t *echo_free_writes;

static inline echo_write_t *echo_take_write(void) {
    echo_write_t *write = echo_free_writes;
    if (write != NULL)
        echo_free_writes = write->next;
    else
        write = (echo_write_t *)malloc(sizeof(*write));
    bench_check(write != NULL, "malloc");
    return write;
}

static inline void echo_give_write(echo_write_t *write) {
    write->next = echo_free_writes;
    echo_free_writes = write;
}

static void echo_on_close(uv_handle_t *handle) {
    free(handle);
}

static void echo_on_write(uv_write_t *req, int status) {
    bench_check(status == 0 || net_is_over(), "uv_write");
    echo_give_write((echo_write_t *)req);
}

/* Once the load is gone, writes fail. */
static inline void echo_send(uv_stream_t *stream, echo_write_t *write, size_t size) {
    uv_buf_t buf = uv_buf_init(write->data, (unsigned)size);
    int err = uv_write(&write->req, stream, &buf, 1, echo_on_write);
    bench_check(err == 0 || net_is_over(), "uv_write");
    if (err != 0)
        echo_give_write(write);
}

/* What is read lands in the buffer from which it goes back. */
static void echo_on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf) {
    (void)handle;
    (void)suggested;
    *buf = uv_buf_init(echo_take_write()->data, ECHO_CHUNK);
}

static void echo_on_read(uv_stream_t *stream, ssize_t nread, const uv_buf_t *buf) {
    echo_write_t *write = (echo_write_t *)(void *)(buf->base - offsetof(echo_write_t, data));
    if (nread <= 0 && buf->base != NULL) /* an end is told of without a buffer, at times */
        echo_give_write(write);
    if (nread < 0)
        uv_close((uv_handle_t *)stream, echo_on_close);
    if (nread <= 0)
        return;
    echo_send(stream, write, (size_t)nread);
    if (net_pass((size_t)nread))
        uv_close((uv_handle_t *)&echo_listener, NULL);
}

static void echo_on_connection(uv_stream_t *server, int status) {
    uv_tcp_t *tcp = (uv_tcp_t *)malloc(sizeof(*tcp));
    bench_check(status == 0 && tcp != NULL, "accepting");
    bench_check(uv_tcp_init(server->loop, tcp) == 0, "uv_tcp_init");
    bench_check(uv_accept(server, (uv_stream_t *)tcp) == 0, "uv_accept");
    bench_check(uv_tcp_nodelay(tcp, 1) == 0, "uv_tcp_nodelay");
    bench_check(uv_read_start((uv_stream_t *)tcp, echo_on_alloc, echo_on_read) == 0,
                "uv_read_start");
    echo_accepted();
}

static void echo_serve(unsigned connections, size_t bytes, unsigned idle) {
    uv_loop_t loop;
    bench_check(uv_loop_init(&loop) == 0, "uv_loop_init");
    int port = net_listen_libuv(&loop, &echo_listener, echo_on_connection);
    net_start_load("echo", port, connections, bytes, idle);
    uv_run(&loop, UV_RUN_DEFAULT);
    bench_check(uv_loop_close(&loop) == 0, "uv_loop_close");
}

#elif defined(BENCH_LIBEVENT)

static struct evconnlistener *echo_listener;

/* What was read moves over to what is written, without being copied. */
static void echo_on_read(struct bufferevent *connection, void *arg) {
    struct evbuffer *input = bufferevent_get_input(connection);
    size_t size = evbuffer_get_length(input);
    (void)arg;
    bench_check(bufferevent_write_buffer(connection, input) == 0, "bufferevent_write_buffer");
    if (net_pass(size))
        evconnlistener_free(echo_listener);
}

static void echo_on_end(struct bufferevent *connection, short events, void *arg) {
    (void)events;
    (void)arg;
    bufferevent_free(connection);
}

static void echo_on_connection(struct evconnlistener *listener, evutil_socket_t fd,
                               struct sockaddr *address, int length, void *arg) {
    struct bufferevent *connection =
        bufferevent_socket_new(evconnlistener_get_base(listener), fd, BEV_OPT_CLOSE_ON_FREE);
    (void)address;
    (void)length;
    (void)arg;
    bench_check(connection != NULL, "bufferevent_socket_new");
    net_set_nodelay(fd);
    bufferevent_setcb(connection, echo_on_read, NULL, echo_on_end, NULL);
    bench_check(bufferevent_enable(connection, EV_READ | EV_WRITE) == 0, "bufferevent_enable");
    echo_accepted();
}

static void echo_serve(unsigned connections, size_t bytes, unsigned idle) {
    struct event_base *base = event_base_new();
    bench_check(base != NULL, "event_base_new");
    echo_listener = net_listen_libevent(base, echo_on_connection);
    net_start_load("echo", net_port_of(evconnlistener_get_fd(echo_listener)), connections, bytes,
                   idle);
    bench_check(event_base_dispatch(base) >= 0, "event_base_dispatch");
    event_base_free(base);
}

#else

enum { ECHO_READ, ECHO_WRITE, ECHO_END }; /* what a connection waits for */

/* What the kernel did not take of an answer at once. */
typedef struct {
    size_t size, done;
    char data[ECHO_CHUNK];
} echo_rest_t;

static void echo_stop_listening(void);

static inline int echo_would_block(void) {
    return errno == EAGAIN || errno == EINTR;
}

/* After reading (or writing, if that is what failed) did not go as it mostly does. */
static __attribute__((noinline)) int echo_keep(echo_rest_t **rest, const char *data, ssize_t size,
                                               ssize_t written) {
    if (size <= 0)
        return size < 0 && echo_would_block() ? ECHO_READ : ECHO_END;
    if (written < 0 && !echo_would_block())
        return ECHO_END;
    written = written < 0 ? 0 : written;
    *rest = (echo_rest_t *)malloc(sizeof(**rest));
    bench_check(*rest != NULL, "malloc");
    (*rest)->done = 0;
    (*rest)->size = (size_t)(size - written);
    memcpy((*rest)->data, data + written, (*rest)->size);
    return ECHO_WRITE;
}

/* Reads once and answers. */
static inline int echo_answer(int fd, echo_rest_t **rest) {
    static char data[ECHO_CHUNK];
    ssize_t written = 0, size = read(fd, data, sizeof(data));
    if (size > 0) {
        written = write(fd, data, (size_t)size);
        if (net_pass((size_t)size))
            echo_stop_listening();
    }
    return size > 0 && written == size ? ECHO_READ : echo_keep(rest, data, size, written);
}

/* Goes on with the rest; nothing is read before it has left. */
static int echo_flush(int fd, echo_rest_t **rest) {
    echo_rest_t *left = *rest;
    ssize_t written = write(fd, left->data + left->done, left->size - left->done);
    if (written < 0)
        return echo_would_block() ? ECHO_WRITE : ECHO_END;
    left->done += (size_t)written;
    if (left->done < left->size)
        return ECHO_WRITE;
    free(left);
    *rest = NULL;
    return ECHO_READ;
}

#if defined(BENCH_LIBEV)

typedef struct {
    ev_io io;
    echo_rest_t *rest;
} echo_connection_t;

static struct ev_loop *echo_loop;
static ev_io echo_listener;

static void echo_stop_listening(void) {
    net_close_libev(echo_loop, &echo_listener);
}

static void echo_on_ready(struct ev_loop *loop, ev_io *io, int events) {
    echo_connection_t *connection = (echo_connection_t *)io;
    int waited = connection->rest == NULL ? ECHO_READ : ECHO_WRITE;
    int waits = waited == ECHO_READ ? echo_answer(io->fd, &connection->rest)
                                    : echo_flush(io->fd, &connection->rest);
    (void)events;
    if (waits == waited)
        return;
    ev_io_stop(loop, io);
    if (waits == ECHO_END) {
        close(io->fd);
        free(connection->rest);
        free(connection);
        return;
    }
    ev_io_set(io, io->fd, waits == ECHO_WRITE ? EV_WRITE : EV_READ);
    ev_io_start(loop, io);
}

static void echo_on_connection(struct ev_loop *loop, ev_io *io, int events) {
    int fd = net_accept(io->fd);
    (void)events;
    if (fd < 0)
        return;
    echo_connection_t *connection = (echo_connection_t *)malloc(sizeof(*connection));
    bench_check(connection != NULL, "malloc");
    net_set_nodelay(fd);
    connection->rest = NULL;
    ev_io_init(&connection->io, echo_on_ready, fd, EV_READ);
    ev_io_start(loop, &connection->io);
    echo_accepted();
}

static void echo_serve(unsigned connections, size_t bytes, unsigned idle) {
    echo_loop = ev_loop_new(EVFLAG_AUTO);
    bench_check(echo_loop != NULL, "ev_loop_new");
    int port = net_listen_libev(echo_loop, &echo_listener, echo_on_connection);
    net_start_load("echo", port, connections, bytes, idle);
    ev_run(echo_loop, 0);
    ev_loop_destroy(echo_loop);
}

#else

typedef struct {
    int fd;
    echo_rest_t *rest;
} echo_connection_t;

static void echo_stop_listening(void) {
    net_close(net_listener);
}

static void echo_on_ready(void *data, uint32_t events) {
    echo_connection_t *connection = (echo_connection_t *)data;
    int waited = connection->rest == NULL ? ECHO_READ : ECHO_WRITE;
    int waits = waited == ECHO_READ ? echo_answer(connection->fd, &connection->rest)
                                    : echo_flush(connection->fd, &connection->rest);
    (void)events;
    if (waits == waited)
        return;
    if (waits == ECHO_END) {
        net_close(connection->fd);
        free(connection->rest);
        free(connection);
        return;
    }
    net_control(EPOLL_CTL_MOD, connection->fd, waits == ECHO_WRITE ? EPOLLOUT : EPOLLIN,
                connection);
}

static void echo_on_connection(int fd) {
    echo_connection_t *connection = (echo_connection_t *)malloc(sizeof(*connection));
    bench_check(connection != NULL, "malloc");
    net_set_nodelay(fd);
    connection->fd = fd;
    connection->rest = NULL;
    net_watch(fd, EPOLLIN, connection);
    echo_accepted();
}

static void echo_serve(unsigned connections, size_t bytes, unsigned idle) {
    int port = net_listen_bare();
    net_start_load("echo", port, connections, bytes, idle);
    net_serve_bare(echo_on_connection, echo_on_ready);
}

#endif
#endif

#endif /* BENCH_ECHO_H */
