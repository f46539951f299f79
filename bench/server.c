/* A TCP echo server, complete and small: code.sh measures the size of its code, and builds it for evloop,
 * libuv, libev and libevent.
 *
 *     server        takes any free port of the loopback, prints it and serves until it is killed
 *
 * Each connection has one buffer: what was read is written back, and until that is done nothing more is
 * read. Built with BENCH_BARE it is the client that checks such a server:
 *
 *     server-check PROGRAM */
#include "bench.h"

#if defined(BENCH_LIBEVENT)
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/listener.h>
#endif

#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

enum { BUFFER_BYTES = 16384, BACKLOG = 128 };

#if !defined(BENCH_BARE)
static void print_port(const struct sockaddr_in *address) {
    printf("%d\n", (int)ntohs(address->sin_port));
    fflush(stdout);
}
#endif

#if defined(BENCH_EVLOOP)

struct connection {
    evl_tcp_t tcp; /* first, so that a pointer to it is one to the connection */
    evl_write_t write;
    char bytes[BUFFER_BYTES];
};

static evl_loop_t loop;

static void on_closed(evl_handle_t *handle) {
    free(handle);
}

static void drop(evl_stream_t *stream) {
    if (!evl_is_closing((evl_handle_t *)stream))
        evl_close((evl_handle_t *)stream, on_closed);
}

static void on_alloc(evl_handle_t *handle, size_t suggested, evl_buf_t *buf) {
    struct connection *connection = (struct connection *)handle;
    (void)suggested;
    *buf = evl_buf_init(connection->bytes, BUFFER_BYTES);
}

static void on_read(evl_stream_t *stream, ssize_t nread, const evl_buf_t *buf);

static void on_written(evl_write_t *write, int status) {
    if (status < 0 || evl_read_start(write->handle, on_alloc, on_read) < 0)
        drop(write->handle);
}

static void on_read(evl_stream_t *stream, ssize_t nread, const evl_buf_t *buf) {
    struct connection *connection = (struct connection *)stream;
    evl_buf_t out = evl_buf_init(buf->base, nread > 0 ? (unsigned)nread : 0);
    if (nread == 0)
        return;
    evl_read_stop(stream);
    if (nread < 0 || evl_write(&connection->write, stream, &out, 1, on_written) < 0)
        drop(stream);
}

static void on_connection(evl_stream_t *listener, int status) {
    struct connection *connection = (struct connection *)malloc(sizeof(*connection));
    evl_stream_t *stream = (evl_stream_t *)connection;
    bench_check(status == 0 && connection != NULL, "accepting");
    bench_check(evl_tcp_init(&loop, &connection->tcp) == 0, "evl_tcp_init");
    if (evl_accept(listener, stream) < 0 || evl_read_start(stream, on_alloc, on_read) < 0)
        drop(stream);
}

static void serve(void) {
    evl_tcp_t listener;
    struct sockaddr_in address;
    int length = sizeof(address);
    bench_check(evl_ip4_addr("127.0.0.1", 0, &address) == 0, "evl_ip4_addr");
    bench_check(evl_loop_init(&loop) == 0, "evl_loop_init");
    bench_check(evl_tcp_init(&loop, &listener) == 0, "evl_tcp_init");
    bench_check(evl_tcp_bind(&listener, (struct sockaddr *)&address, 0) == 0, "evl_tcp_bind");
    bench_check(evl_listen((evl_stream_t *)&listener, BACKLOG, on_connection) == 0, "evl_listen");
    bench_check(evl_tcp_getsockname(&listener, (struct sockaddr *)&address, &length) == 0,
                "evl_tcp_getsockname");
    print_port(&address);
    evl_run(&loop, EVL_RUN_DEFAULT);
}

#elif defined(BENCH_LIBUV)

struct connection {
    uv_tcp_t tcp; /* first, so that a pointer to it is one to the connection */
    uv_write_t write;
    char bytes[BUFFER_BYTES];
};

static uv_loop_t loop;

static void on_closed(uv_handle_t *handle) {
    free(handle);
}

static void drop(uv_stream_t *stream) {
    if (!uv_is_closing((uv_handle_t *)stream))
        uv_close((uv_handle_t *)stream, on_closed);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf) {
    struct connection *connection = (struct connection *)handle;
    (void)suggested;
    *buf = uv_buf_init(connection->bytes, BUFFER_BYTES);
}

static void on_read(uv_stream_t *stream, ssize_t nread, const uv_buf_t *buf);

static void on_written(uv_write_t *write, int status) {
    if (status < 0 || uv_read_start(write->handle, on_alloc, on_read) < 0)
        drop(write->handle);
}

static void on_read(uv_stream_t *stream, ssize_t nread, const uv_buf_t *buf) {
    struct connection *connection = (struct connection *)stream;
    uv_buf_t out = uv_buf_init(buf->base, nread > 0 ? (unsigned)nread : 0);
    if (nread == 0)
        return;
    uv_read_stop(stream);
    if (nread < 0 || uv_write(&connection->write, stream, &out, 1, on_written) < 0)
        drop(stream);
}

static void on_connection(uv_stream_t *listener, int status) {
    struct connection *connection = (struct connection *)malloc(sizeof(*connection));
    uv_stream_t *stream = (uv_stream_t *)connection;
    bench_check(status == 0 && connection != NULL, "accepting");
    bench_check(uv_tcp_init(&loop, &connection->tcp) == 0, "uv_tcp_init");
    if (uv_accept(listener, stream) < 0 || uv_read_start(stream, on_alloc, on_read) < 0)
        drop(stream);
}

static void serve(void) {
    uv_tcp_t listener;
    struct sockaddr_in address;
    int length = sizeof(address);
    bench_check(uv_ip4_addr("127.0.0.1", 0, &address) == 0, "uv_ip4_addr");
    bench_check(uv_loop_init(&loop) == 0, "uv_loop_init");
    bench_check(uv_tcp_init(&loop, &listener) == 0, "uv_tcp_init");
    bench_check(uv_tcp_bind(&listener, (struct sockaddr *)&address, 0) == 0, "uv_tcp_bind");
    bench_check(uv_listen((uv_stream_t *)&listener, BACKLOG, on_connection) == 0, "uv_listen");
    bench_check(uv_tcp_getsockname(&listener, (struct sockaddr *)&address, &length) == 0,
                "uv_tcp_getsockname");
    print_port(&address);
    uv_run(&loop, UV_RUN_DEFAULT);
}

#elif defined(BENCH_LIBEV)

struct connection {
    ev_io io; /* first, so that a pointer to it is one to the connection */
    size_t length, sent;
    char bytes[BUFFER_BYTES];
};

static void drop(struct ev_loop *loop, struct connection *connection) {
    ev_io_stop(loop, &connection->io);
    close(connection->io.fd);
    free(connection);
}

static void want(struct ev_loop *loop, ev_io *io, int events) {
    if (io->events & events)
        return;
    ev_io_stop(loop, io);
    ev_io_modify(io, events);
    ev_io_start(loop, io);
}

static void send_rest(struct ev_loop *loop, struct connection *connection) {
    ssize_t n = send(connection->io.fd, connection->bytes + connection->sent,
                     connection->length - connection->sent, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN && errno != EINTR) {
        drop(loop, connection);
        return;
    }
    connection->sent += n > 0 ? (size_t)n : 0;
    want(loop, &connection->io, connection->sent < connection->length ? EV_WRITE : EV_READ);
}

static void on_io(struct ev_loop *loop, ev_io *io, int events) {
    struct connection *connection = (struct connection *)io;
    ssize_t n;
    if (events & EV_WRITE) {
        send_rest(loop, connection);
        return;
    }
    n = recv(io->fd, connection->bytes, BUFFER_BYTES, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        drop(loop, connection);
        return;
    }
    connection->length = (size_t)n;
    connection->sent = 0;
    send_rest(loop, connection);
}

static void on_connection(struct ev_loop *loop, ev_io *listener, int events) {
    int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    struct connection *connection = (struct connection *)malloc(sizeof(*connection));
    (void)events;
    bench_check(fd >= 0 && connection != NULL, "accepting");
    ev_io_init(&connection->io, on_io, fd, EV_READ);
    ev_io_start(loop, &connection->io);
}

static void serve(void) {
    struct ev_loop *loop = ev_loop_new(EVFLAG_AUTO);
    ev_io listener;
    struct sockaddr_in address = {0};
    socklen_t length = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    bench_check(loop != NULL && fd >= 0, "ev_loop_new");
    bench_check(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0, "setsockopt");
    bench_check(bind(fd, (struct sockaddr *)&address, length) == 0, "bind");
    bench_check(listen(fd, BACKLOG) == 0, "listen");
    bench_check(getsockname(fd, (struct sockaddr *)&address, &length) == 0, "getsockname");
    ev_io_init(&listener, on_connection, fd, EV_READ);
    ev_io_start(loop, &listener);
    print_port(&address);
    ev_run(loop, 0);
}

#elif defined(BENCH_LIBEVENT)

static void on_event(struct bufferevent *buffered, short what, void *arg) {
    (void)arg;
    if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR))
        bufferevent_free(buffered);
}

/* The bytes move from one buffer to the other, and nothing more is read until they are gone. */
static void on_read(struct bufferevent *buffered, void *arg) {
    (void)arg;
    if (bufferevent_disable(buffered, EV_READ) < 0 ||
        bufferevent_write_buffer(buffered, bufferevent_get_input(buffered)) < 0)
        bufferevent_free(buffered);
}

static void on_written(struct bufferevent *buffered, void *arg) {
    (void)arg;
    if (bufferevent_enable(buffered, EV_READ) < 0)
        bufferevent_free(buffered);
}

static void on_connection(struct evconnlistener *listener, evutil_socket_t fd,
                          struct sockaddr *peer, int peer_length, void *arg) {
    struct bufferevent *buffered =
        bufferevent_socket_new(evconnlistener_get_base(listener), fd, BEV_OPT_CLOSE_ON_FREE);
    (void)peer;
    (void)peer_length;
    (void)arg;
    bench_check(buffered != NULL, "bufferevent_socket_new");
    bufferevent_setcb(buffered, on_read, on_written, on_event, NULL);
    bench_check(bufferevent_enable(buffered, EV_READ | EV_WRITE) == 0, "bufferevent_enable");
}

static void serve(void) {
    struct event_base *base = event_base_new();
    struct evconnlistener *listener;
    struct sockaddr_in address = {0};
    socklen_t length = sizeof(address);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    bench_check(base != NULL, "event_base_new");
    listener =
        evconnlistener_new_bind(base, on_connection, NULL,
                                LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_REUSEABLE,
                                BACKLOG, (struct sockaddr *)&address, (int)length);
    bench_check(listener != NULL, "evconnlistener_new_bind");
    bench_check(
        getsockname(evconnlistener_get_fd(listener), (struct sockaddr *)&address, &length) == 0,
        "getsockname");
    print_port(&address);
    event_base_dispatch(base);
}

#else

enum { CHECKED_BYTES = 4000000 };

static char byte_at(size_t at) {
    return (char)(at * 31 + at / 251);
}

/* Starts the server and returns its port, which it prints. */
static in_port_t start(char *program, pid_t *server) {
    int out[2];
    char text[16] = "";
    bench_check(pipe(out) == 0, "pipe");
    *server = fork();
    bench_check(*server >= 0, "fork");
    if (*server == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* also when a check fails */
        dup2(out[1], 1);
        close(out[0]);
        close(out[1]);
        execl(program, program, (char *)NULL);
        _exit(127);
    }
    close(out[1]);
    bench_check(read(out[0], text, sizeof(text) - 1) > 0, "the server's start");
    close(out[0]);
    return htons((in_port_t)atoi(text));
}

/* Another process sends, so that the server meets a peer that reads more slowly than it is written to. */
static void send_all(int fd) {
    static char bytes[CHECKED_BYTES];
    for (size_t i = 0; i < CHECKED_BYTES; i++)
        bytes[i] = byte_at(i);
    for (size_t sent = 0; sent < CHECKED_BYTES;) {
        ssize_t n = write(fd, bytes + sent, CHECKED_BYTES - sent);
        bench_check(n > 0, "write");
        sent += (size_t)n;
    }
    shutdown(fd, SHUT_WR);
    _exit(0);
}

static void check_echo(in_port_t port) {
    struct sockaddr_in address = {0};
    char bytes[10000];
    size_t received = 0;
    ssize_t n;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    address.sin_family = AF_INET;
    address.sin_port = port;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    bench_check(connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0, "connect");
    if (fork() == 0)
        send_all(fd);
    while ((n = read(fd, bytes, sizeof(bytes))) > 0)
        for (ssize_t i = 0; i < n; i++)
            bench_check(bytes[i] == byte_at(received++), "the echo's bytes");
    bench_check(n == 0 && received == CHECKED_BYTES, "the echo's length");
    close(fd);
}

int main(int argc, char **argv) {
    pid_t server;
    in_port_t port;
    bench_program = argv[0];
    bench_check(argc == 2, "naming the server");
    alarm(20); /* for a server that does not answer */
    port = start(argv[1], &server);
    check_echo(port);
    check_echo(port);
    bench_check(kill(server, SIGKILL) == 0 && waitpid(server, NULL, 0) == server,
                "the server's staying alive");
    return 0;
}

#endif

#if !defined(BENCH_BARE)
int main(int argc, char **argv) {
    (void)argc;
    bench_program = argv[0];
    signal(SIGPIPE, SIG_IGN);
    serve();
    return 0;
}
#endif
