/* A small HTTP/1.1 server under wrk.
 * Libraries: evloop libuv libev libevent
 *
 * The handler is the same for everyone, a plain function over bytes: it parses the request line and the
 * headers up to the empty line and answers each request with 128 bytes. The libraries bring the bytes in
 * and out. The server starts wrk on 50 connections; from the last of them on it counts its requests and
 * the CPU time that it takes, and when it has seen enough it interrupts wrk, whose own count must not be
 * less. Without wrk there is no result. */
#include "bench.h"
#include "net.h"

#include <strings.h>
#include <sys/prctl.h>

enum {
    CONNECTIONS = 50,
    REQUESTS = 80000,
    READ_BYTES = 4096, /* one buffer for all: a handler is done with its bytes when it returns */
    REQUEST_LEAST = 18,
    ANSWERS = READ_BYTES / REQUEST_LEAST, /* that one read may ask for */
    TIME_LIMIT_S = 60
};

/* ---- The handler ---- */

#define ANSWER_HEAD                                                                                \
    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 128\r\nConnection: "           \
    "keep-alive\r\n\r\n"

enum { ANSWER_BYTES = sizeof(ANSWER_HEAD) - 1 + 128 };

static char
    answers[ANSWERS * ANSWER_BYTES]; /* as many as one read may ask for, one after another */

/* The start of a request whose end has not come yet. */
struct http {
    size_t held;
    char bytes[READ_BYTES];
};

static void make_answers(void) {
    for (int i = 0; i < ANSWERS; i++) {
        char *answer = answers + (size_t)i * ANSWER_BYTES;
        memcpy(answer, ANSWER_HEAD, sizeof(ANSWER_HEAD) - 1);
        memset(answer + sizeof(ANSWER_HEAD) - 1, 'x', 128);
    }
}

/* "GET /path HTTP/1.1" and the like. */
static int parse_request_line(const char *line, const char *end) {
    const char *target = (const char *)memchr(line, ' ', (size_t)(end - line));
    const char *version =
        target == NULL ? NULL : (const char *)memchr(target + 1, ' ', (size_t)(end - target - 1));
    return version != NULL && target > line && target[1] == '/' && end - version == 9 &&
           memcmp(version, " HTTP/1.1", 9) == 0;
}

/* "Name: value". */
static int parse_header(const char *line, const char *end) {
    const char *colon = (const char *)memchr(line, ':', (size_t)(end - line));
    if (colon == NULL || colon == line)
        return 0;
    for (const char *p = line; p < colon; p++)
        if (*p <= ' ' || *p == 127)
            return 0;
    /* Nobody here sends a body or wants the connection closed. */
    if (colon - line == 14 && strncasecmp(line, "content-length", 14) == 0)
        return 0;
    if (colon - line == 10 && strncasecmp(line, "connection", 10) == 0)
        return end - colon >= 10 && strncasecmp(end - 10, "keep-alive", 10) == 0;
    return 1;
}

/* The length of the request at the start of these bytes; 0: its end is missing; -1: it is not one. */
static ssize_t parse_request(const char *bytes, size_t length) {
    const char *line = bytes, *limit = bytes + length, *end;
    while ((end = (const char *)memchr(line, '\n', (size_t)(limit - line))) != NULL) {
        if (end == line || end[-1] != '\r')
            return -1;
        if (end - 1 == line)
            return line == bytes ? -1 : end + 1 - bytes;
        if (!(line == bytes ? parse_request_line(line, end - 1) : parse_header(line, end - 1)))
            return -1;
        line = end + 1;
    }
    return 0;
}

/* Takes what was read and returns how many answers are due. */
static unsigned http_take(struct http *http, const char *bytes, size_t length) {
    unsigned due = 0;
    size_t at = 0;
    ssize_t n;
    bench_check(http->held + length <= sizeof(http->bytes), "a request's head fitting");
    if (http->held > 0) {
        memcpy(http->bytes + http->held, bytes, length);
        bytes = http->bytes;
        length += http->held;
    }
    while ((n = parse_request(bytes + at, length - at)) > 0) {
        at += (size_t)n;
        due++;
    }
    bench_check(n == 0 && due <= ANSWERS, "parsing the request");
    http->held = length - at;
    memmove(http->bytes, bytes + at, http->held);
    return due;
}

/* ---- Counting ---- */

static pid_t wrk;
static int wrk_output;
static unsigned requests_wanted, requests; /* from when all connections are there */
static unsigned connections, probes;       /* open now; those that wrk only tried out */
static int ending;                         /* wrk has been interrupted: its connections go */
static net_time_t begin, end;

/* Each library defines these. */
static int open_server(void); /* returns the port */
static void run_server(void);
static void stop_server(void);

static void connection_came(void) {
    if (++connections != CONNECTIONS)
        return;
    requests = 0;
    begin = net_now();
}

/* Before all others wrk opens a connection and closes it, to see whether there is a server. */
static void connection_went(void) {
    bench_check(ending || ++probes == 1, "keeping the connections");
    if (--connections == 0 && ending)
        stop_server();
}

static void requests_came(unsigned count) {
    requests += count;
    if (begin.wall_ns == 0 || requests < requests_wanted || ending)
        return;
    end = net_now();
    requests_wanted = requests;
    ending = 1;
    bench_check(kill(wrk, SIGINT) == 0, "kill");
}

/* ---- The libraries ---- */

static char read_buffer[READ_BYTES];

#if defined(BENCH_EVLOOP)

struct connection {
    evl_tcp_t tcp; /* first, so that a pointer to it is one to the connection */
    struct http http;
};

/* A peer may ask again before the callback of the last write has run. */
struct answer {
    evl_write_t write;
    struct answer *next;
};

static evl_loop_t loop;
static evl_tcp_t listener;
static struct answer *spare_answers;

static void on_closed(evl_handle_t *handle) {
    free(handle);
    connection_went();
}

static void drop(evl_stream_t *stream) {
    if (!evl_is_closing((evl_handle_t *)stream))
        evl_close((evl_handle_t *)stream, on_closed);
}

static void on_alloc(evl_handle_t *handle, size_t suggested, evl_buf_t *buf) {
    (void)handle;
    (void)suggested;
    *buf = evl_buf_init(read_buffer, READ_BYTES);
}

static void on_written(evl_write_t *write, int status) {
    struct answer *answer = (struct answer *)write;
    bench_check(status == 0 || ending, "writing");
    if (status < 0)
        drop(write->handle);
    answer->next = spare_answers;
    spare_answers = answer;
}

static void on_read(evl_stream_t *stream, ssize_t nread, const evl_buf_t *buf) {
    struct answer *answer = spare_answers;
    evl_buf_t out;
    unsigned due;
    if (nread < 0)
        drop(stream);
    due = nread > 0 ? http_take(&((struct connection *)stream)->http, buf->base, (size_t)nread) : 0;
    if (due == 0)
        return;
    if (answer != NULL)
        spare_answers = answer->next;
    else
        answer = (struct answer *)malloc(sizeof(*answer));
    bench_check(answer != NULL, "malloc");
    out = evl_buf_init(answers, due * ANSWER_BYTES);
    bench_check(evl_write(&answer->write, stream, &out, 1, on_written) == 0, "evl_write");
    requests_came(due);
}

static void on_connection(evl_stream_t *server, int status) {
    struct connection *connection = (struct connection *)malloc(sizeof(*connection));
    evl_stream_t *stream = (evl_stream_t *)connection;
    bench_check(status == 0 && connection != NULL, "accepting");
    connection->http.held = 0;
    bench_check(evl_tcp_init(&loop, &connection->tcp) == 0, "evl_tcp_init");
    bench_check(evl_accept(server, stream) == 0, "evl_accept");
    bench_check(evl_tcp_nodelay(&connection->tcp, 1) == 0, "evl_tcp_nodelay");
    bench_check(evl_read_start(stream, on_alloc, on_read) == 0, "evl_read_start");
    connection_came();
}

static int open_server(void) {
    bench_check(evl_loop_init(&loop) == 0, "evl_loop_init");
    return net_listen_evloop(&loop, &listener, on_connection);
}

static void run_server(void) {
    bench_check(evl_run(&loop, EVL_RUN_DEFAULT) == 0, "evl_run");
    bench_check(evl_loop_close(&loop) == 0, "evl_loop_close");
}

static void stop_server(void) {
    evl_close((evl_handle_t *)&listener, NULL);
}

#elif defined(BENCH_LIBUV)

struct connection {
    uv_tcp_t tcp; /* first, so that a pointer to it is one to the connection */
    struct http http;
};

/* A peer may ask again before the callback of the last write has run. */
struct answer {
    uv_write_t write;
    struct answer *next;
};

static uv_loop_t loop;
static uv_tcp_t listener;
static struct answer *spare_answers;

static void on_closed(uv_handle_t *handle) {
    free(handle);
    connection_went();
}

static void drop(uv_stream_t *stream) {
    if (!uv_is_closing((uv_handle_t *)stream))
        uv_close((uv_handle_t *)stream, on_closed);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf) {
    (void)handle;
    (void)suggested;
    *buf = uv_buf_init(read_buffer, READ_BYTES);
}

static void on_written(uv_write_t *write, int status) {
    struct answer *answer = (struct answer *)write;
    bench_check(status == 0 || ending, "writing");
    if (status < 0)
        drop(write->handle);
    answer->next = spare_answers;
    spare_answers = answer;
}

static void on_read(uv_stream_t *stream, ssize_t nread, const uv_buf_t *buf) {
    struct answer *answer = spare_answers;
    uv_buf_t out;
    unsigned due;
    if (nread < 0)
        drop(stream);
    due = nread > 0 ? http_take(&((struct connection *)stream)->http, buf->base, (size_t)nread) : 0;
    if (due == 0)
        return;
    if (answer != NULL)
        spare_answers = answer->next;
    else
        answer = (struct answer *)malloc(sizeof(*answer));
    bench_check(answer != NULL, "malloc");
    out = uv_buf_init(answers, due * ANSWER_BYTES);
    bench_check(uv_write(&answer->write, stream, &out, 1, on_written) == 0, "uv_write");
    requests_came(due);
}

static void on_connection(uv_stream_t *server, int status) {
    struct connection *connection = (struct connection *)malloc(sizeof(*connection));
    uv_stream_t *stream = (uv_stream_t *)connection;
    bench_check(status == 0 && connection != NULL, "accepting");
    connection->http.held = 0;
    bench_check(uv_tcp_init(&loop, &connection->tcp) == 0, "uv_tcp_init");
    bench_check(uv_accept(server, stream) == 0, "uv_accept");
    bench_check(uv_tcp_nodelay(&connection->tcp, 1) == 0, "uv_tcp_nodelay");
    bench_check(uv_read_start(stream, on_alloc, on_read) == 0, "uv_read_start");
    connection_came();
}

static int open_server(void) {
    bench_check(uv_loop_init(&loop) == 0, "uv_loop_init");
    return net_listen_libuv(&loop, &listener, on_connection);
}

static void run_server(void) {
    bench_check(uv_run(&loop, UV_RUN_DEFAULT) == 0, "uv_run");
    bench_check(uv_loop_close(&loop) == 0, "uv_loop_close");
}

static void stop_server(void) {
    uv_close((uv_handle_t *)&listener, NULL);
}

#elif defined(BENCH_LIBEV)

struct connection {
    ev_io io; /* first, so that a pointer to it is one to the connection */
    size_t to_send;
    const char *rest;
    struct http http;
};

static struct ev_loop *loop;
static ev_io listener;

static void drop(struct connection *connection) {
    ev_io_stop(loop, &connection->io);
    close(connection->io.fd);
    free(connection);
    connection_went();
}

static void want(ev_io *io, int events) {
    if ((io->events & (EV_READ | EV_WRITE)) == events)
        return;
    ev_io_stop(loop, io);
    ev_io_modify(io, events);
    ev_io_start(loop, io);
}

/* Nothing is read while the peer does not take what is left. */
static void send_rest(struct connection *connection) {
    ssize_t n = send(connection->io.fd, connection->rest, connection->to_send, MSG_NOSIGNAL);
    bench_check(n >= 0 || errno == EAGAIN || errno == EINTR || ending, "writing");
    if (n < 0 && errno != EAGAIN && errno != EINTR) {
        drop(connection);
        return;
    }
    connection->rest += n > 0 ? n : 0;
    connection->to_send -= n > 0 ? (size_t)n : 0;
    want(&connection->io, connection->to_send > 0 ? EV_WRITE : EV_READ);
}

static void on_io(struct ev_loop *ignored, ev_io *io, int events) {
    struct connection *connection = (struct connection *)io;
    unsigned due;
    ssize_t n;
    (void)ignored;
    if (events & EV_WRITE) {
        send_rest(connection);
        return;
    }
    n = recv(io->fd, read_buffer, READ_BYTES, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        drop(connection);
        return;
    }
    due = http_take(&connection->http, read_buffer, (size_t)n);
    if (due == 0)
        return;
    connection->rest = answers;
    connection->to_send = due * ANSWER_BYTES;
    send_rest(connection);
    requests_came(due);
}

static void on_connection(struct ev_loop *ignored, ev_io *server, int events) {
    int fd = net_accept(server->fd);
    struct connection *connection = (struct connection *)malloc(sizeof(*connection));
    (void)ignored;
    (void)events;
    bench_check(fd >= 0 && connection != NULL, "accepting");
    net_set_nodelay(fd);
    connection->http.held = 0;
    ev_io_init(&connection->io, on_io, fd, EV_READ);
    ev_io_start(loop, &connection->io);
    connection_came();
}

static int open_server(void) {
    loop = ev_loop_new(EVFLAG_AUTO);
    bench_check(loop != NULL, "ev_loop_new");
    return net_listen_libev(loop, &listener, on_connection);
}

static void run_server(void) {
    ev_run(loop, 0);
    ev_loop_destroy(loop);
}

static void stop_server(void) {
    net_close_libev(loop, &listener);
}

#else

static struct event_base *base;
static struct evconnlistener *listener;

static void on_event(struct bufferevent *buffered, short what, void *arg) {
    if (!(what & (BEV_EVENT_EOF | BEV_EVENT_ERROR)))
        return;
    bufferevent_free(buffered);
    free(arg);
    connection_went();
}

static void on_read(struct bufferevent *buffered, void *arg) {
    size_t length;
    while ((length = bufferevent_read(buffered, read_buffer, READ_BYTES)) > 0) {
        unsigned due = http_take((struct http *)arg, read_buffer, length);
        if (due == 0)
            continue;
        bench_check(bufferevent_write(buffered, answers, due * ANSWER_BYTES) == 0,
                    "bufferevent_write");
        requests_came(due);
    }
}

static void on_connection(struct evconnlistener *server, evutil_socket_t fd, struct sockaddr *peer,
                          int peer_length, void *arg) {
    struct bufferevent *buffered = bufferevent_socket_new(base, fd, BEV_OPT_CLOSE_ON_FREE);
    struct http *http = (struct http *)malloc(sizeof(*http));
    (void)server;
    (void)peer;
    (void)peer_length;
    (void)arg;
    bench_check(buffered != NULL && http != NULL, "accepting");
    net_set_nodelay(fd);
    http->held = 0;
    bufferevent_setcb(buffered, on_read, NULL, on_event, http);
    bench_check(bufferevent_enable(buffered, EV_READ | EV_WRITE) == 0, "bufferevent_enable");
    connection_came();
}

static int open_server(void) {
    base = event_base_new();
    bench_check(base != NULL, "event_base_new");
    listener = net_listen_libevent(base, on_connection);
    return net_port_of(evconnlistener_get_fd(listener));
}

static void run_server(void) {
    bench_check(event_base_dispatch(base) >= 0, "event_base_dispatch");
    event_base_free(base);
}

static void stop_server(void) {
    evconnlistener_free(listener);
}

#endif

/* ---- wrk ---- */

static void start_wrk(int port) {
    char url[64], count[16];
    int output[2];
    snprintf(url, sizeof(url), "http://127.0.0.1:%d/", port);
    snprintf(count, sizeof(count), "-c%d", CONNECTIONS);
    bench_check(pipe2(output, O_CLOEXEC) == 0, "pipe");
    wrk_output = output[0];
    wrk = fork();
    bench_check(wrk >= 0, "fork");
    if (wrk == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* also when a check fails */
        dup2(output[1], 1);
        execlp("wrk", "wrk", "-t1", count, "-d60s", url, (char *)NULL);
        _exit(127);
    }
    close(output[1]);
}

/* What wrk prints when it has been interrupted must not tell of errors nor of fewer requests. */
static void check_wrk(void) {
    char text[4096], *count;
    size_t length = 0;
    ssize_t n;
    int status;
    while ((n = read(wrk_output, text + length, sizeof(text) - 1 - length)) > 0)
        length += (size_t)n;
    text[length] = '\0';
    bench_check(waitpid(wrk, &status, 0) == wrk && status == 0, "wrk");
    bench_check(strstr(text, "Socket errors") == NULL && strstr(text, "Non-2xx") == NULL,
                "answering every request");
    count = strstr(text, " requests in ");
    bench_check(count != NULL, "reading what wrk prints");
    while (count > text && count[-1] != ' ' && count[-1] != '\n')
        count--;
    bench_check(strtoul(count, NULL, 10) >= requests_wanted, "counting as many requests as wrk");
}

int main(int argc, char **argv) {
    bench_begin(argc, argv);
    if (!bench_wants("50 connections"))
        return 0;
    if (system("command -v wrk >/dev/null 2>&1") != 0) {
        fprintf(stderr, "%s: wrk is missing: no result\n", bench_program);
        return 0;
    }
    signal(SIGPIPE, SIG_IGN);
    alarm(TIME_LIMIT_S); /* for a wrk that does not come */
    make_answers();
    requests_wanted = bench_scaled(REQUESTS);
    start_wrk(open_server());
    run_server();
    check_wrk();
    bench_report("50 connections", "ns CPU", (end.cpu_ns - begin.cpu_ns) / requests_wanted);
    bench_report("50 connections", "requests/s",
                 requests_wanted * 1e9 / (end.wall_ns - begin.wall_ns));
    return 0;
}
