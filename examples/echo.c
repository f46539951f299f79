/* cc -O2 -o echo examples/echo.c -pthread */

/* echo - a TCP server that sends back what it gets.
 *
 *     ./echo --demo                    (or nothing) four clients on the same loop, then the end
 *     ./echo --listen 127.0.0.1:7777   serves until Ctrl-C
 *
 * Reads go into a buffer that the loop lends, so a connection on which nothing happens holds no
 * buffer. What the peer does not take back at once is copied, and until that is gone nothing more
 * is read: a peer that only sends and never reads costs one copy, not all the memory there is. */

#define EVLOOP_IMPLEMENTATION
#include "../evloop.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_CONNECTIONS = 1000, IDLE_MS = 60000 };

static evl_loop_t loop;
static evl_tcp_t server;

static void check(int result, const char *what) {
    if (result < 0) {
        fprintf(stderr, "%s: %s\n", what, evl_strerror(result));
        exit(EXIT_FAILURE);
    }
}

static void *allocate(size_t size) {
    void *block = malloc(size);
    if (block == NULL)
        check(EVL_ENOMEM, "malloc");
    return block;
}

static void close_once(evl_handle_t *handle, evl_close_cb cb) {
    if (!evl_is_closing(handle))
        evl_close(handle, cb);
}

/* ---- The server ---- */

struct connection {
    evl_tcp_t tcp; /* first, so that a pointer to it is one to the connection */
    evl_write_t write;
    char *rest; /* what `write` writes */
};

static void on_connection_closed(evl_handle_t *handle) {
    free(handle); /* any write's callback has run before */
}

static void on_rest_written(evl_write_t *req, int status);

static void on_data(evl_stream_t *stream, ssize_t nread, const evl_buf_t *buf) {
    struct connection *connection = (struct connection *)stream;
    evl_buf_t out;
    int sent = 0;

    if (nread < 0) { /* EVL_EOF, EVL_ETIMEDOUT after a minute of silence, or a failure */
        close_once((evl_handle_t *)stream, on_connection_closed);
        return;
    }
    if (nread == 0)
        return;

    out = evl_buf_init(buf->base, (unsigned int)nread);
    sent = evl_try_write(stream, &out, 1);
    if (sent == nread)
        return; /* the usual case: nothing was copied, nothing is left to do */
    if (sent < 0 && sent != EVL_EAGAIN) {
        close_once((evl_handle_t *)stream, on_connection_closed);
        return;
    }

    /* The lent buffer is gone when this function returns. */
    if (sent > 0)
        out = evl_buf_init(buf->base + sent, (unsigned int)(nread - sent));
    connection->rest = (char *)allocate(out.len);
    memcpy(connection->rest, out.base, out.len);
    out.base = connection->rest;
    evl_read_stop(stream);
    if (evl_write(&connection->write, stream, &out, 1, on_rest_written) < 0) {
        free(connection->rest); /* a call that fails at once makes no callback */
        close_once((evl_handle_t *)stream, on_connection_closed);
    }
}

static void on_rest_written(evl_write_t *req, int status) {
    evl_stream_t *stream = req->handle;
    struct connection *connection = (struct connection *)stream;

    free(connection->rest);
    if (status == 0)
        status = evl_read_start(stream, NULL, on_data);
    if (status < 0) /* EVL_ECANCELED when it is closing already: then this does nothing */
        close_once((evl_handle_t *)stream, on_connection_closed);
}

static void on_connection(evl_stream_t *listener, int status) {
    struct connection *connection;
    evl_stream_t *stream;

    if (status < 0) { /* say, EVL_EMFILE: those who wait are accepted later */
        fprintf(stderr, "accept: %s\n", evl_strerror(status));
        return;
    }
    connection = (struct connection *)allocate(sizeof *connection);
    stream = (evl_stream_t *)&connection->tcp;
    check(evl_tcp_init(&loop, &connection->tcp), "evl_tcp_init");
    status = evl_accept(listener, stream);
    if (status == 0)
        status = evl_stream_set_timeouts(stream, 0, IDLE_MS, IDLE_MS);
    if (status == 0)
        status = evl_read_start(stream, NULL, on_data); /* NULL: the loop lends the buffers */
    if (status < 0)
        evl_close((evl_handle_t *)stream, on_connection_closed);
}

static void listen_on(const struct sockaddr *address) {
    check(evl_tcp_init(&loop, &server), "evl_tcp_init");
    check(evl_tcp_bind(&server, address, 0), "evl_tcp_bind");
    check(evl_listen((evl_stream_t *)&server, 128, on_connection), "evl_listen");
    check(evl_listen_limit((evl_stream_t *)&server, MAX_CONNECTIONS), "evl_listen_limit");
}

/* ---- --listen ---- */

static void on_interrupt(int signum) {
    (void)signum;
    evl_post_stop(&loop); /* may be called here, as from any thread */
}

static void close_any(evl_handle_t *handle, void *arg) {
    (void)arg;
    close_once(handle, handle == (evl_handle_t *)&server ? NULL : on_connection_closed);
}

/* Takes "127.0.0.1:7777" or "[::1]:7777". */
static int parse_address(const char *text, struct sockaddr_storage *address) {
    const char *colon = strrchr(text, ':');
    char host[64], *end;
    size_t length;
    long port;

    if (colon == NULL)
        return EVL_EINVAL;
    port = strtol(colon + 1, &end, 10);
    if (end == colon + 1 || *end != '\0' || port < 0 || port > 65535)
        return EVL_EINVAL;
    length = (size_t)(colon - text);
    if (length > 2 && text[0] == '[' && colon[-1] == ']') {
        text++;
        length -= 2;
    }
    if (length >= sizeof host)
        return EVL_EINVAL;
    memcpy(host, text, length);
    host[length] = '\0';
    if (evl_ip4_addr(host, (int)port, (struct sockaddr_in *)address) == 0)
        return 0;
    return evl_ip6_addr(host, (int)port, (struct sockaddr_in6 *)address);
}

static void serve(const char *where) {
    struct sockaddr_storage address;
    check(parse_address(where, &address), where);
    listen_on((const struct sockaddr *)&address);
    signal(SIGINT, on_interrupt);
    printf("echoing at %s, until Ctrl-C\n", where);
    fflush(stdout);
    check(evl_run(&loop, EVL_RUN_DEFAULT), "evl_run");

    puts("\nclosing");
    evl_walk(&loop, close_any, NULL);
    check(evl_run(&loop, EVL_RUN_DEFAULT), "evl_run");
}

/* ---- --demo: clients that send, read back and compare ---- */

struct client {
    evl_tcp_t tcp;
    evl_connect_t connect;
    evl_write_t write;
    char *bytes;
    size_t size, received;
    uint64_t started;
};
static struct client clients[4];
static unsigned clients_left = 4;

static void on_client_closed(evl_handle_t *handle) {
    struct client *client = (struct client *)handle;
    free(client->bytes);
    if (--clients_left == 0)
        evl_close((evl_handle_t *)&server, NULL); /* the loop then has nothing left, and ends */
}

static void on_echo(evl_stream_t *stream, ssize_t nread, const evl_buf_t *buf) {
    struct client *client = (struct client *)stream;
    check((int)nread, "read");
    if ((size_t)nread > client->size - client->received ||
        memcmp(buf->base, client->bytes + client->received, (size_t)nread) != 0) {
        fprintf(stderr, "what came back is not what was sent\n");
        exit(EXIT_FAILURE);
    }
    client->received += (size_t)nread;
    if (client->received < client->size)
        return;
    printf("client %d: %8lu bytes there and back in %7.3f ms, all equal\n", (int)(client - clients),
           (unsigned long)client->size, (double)(evl_hrtime() - client->started) / 1e6);
    evl_close((evl_handle_t *)stream, on_client_closed);
}

static void on_all_sent(evl_write_t *req, int status) {
    (void)req;
    check(status, "write");
}

static void on_connected(evl_connect_t *req, int status) {
    struct client *client = (struct client *)req->handle;
    evl_buf_t out = evl_buf_init(client->bytes, (unsigned int)client->size);
    check(status, "connect");
    client->started = evl_hrtime();
    /* Both directions at once: the server stops reading when we do not take back what we sent. */
    check(evl_read_start(req->handle, NULL, on_echo), "evl_read_start");
    check(evl_write(&client->write, req->handle, &out, 1, on_all_sent), "evl_write");
}

static void demo(void) {
    static const size_t sizes[] = {1, 1000, 100 * 1000, 8 * 1000 * 1000};
    struct sockaddr_in address;
    int length = sizeof address;
    size_t i, at;

    check(evl_ip4_addr("127.0.0.1", 0, &address), "evl_ip4_addr"); /* port 0: any that is free */
    listen_on((const struct sockaddr *)&address);
    check(evl_tcp_getsockname(&server, (struct sockaddr *)&address, &length), "getsockname");
    printf("echoing at 127.0.0.1:%d\n", (int)ntohs(address.sin_port));

    for (i = 0; i < 4; i++) {
        struct client *client = &clients[i];
        client->size = sizes[i];
        client->bytes = (char *)allocate(client->size);
        for (at = 0; at < client->size; at++)
            client->bytes[at] = (char)((at * 31 + at / 251 + i) & 0x7f);
        check(evl_tcp_init(&loop, &client->tcp), "evl_tcp_init");
        check(evl_tcp_connect(&client->connect, &client->tcp, (const struct sockaddr *)&address,
                              on_connected),
              "evl_tcp_connect");
    }
    check(evl_run(&loop, EVL_RUN_DEFAULT), "evl_run");
}

int main(int argc, char **argv) {
    check(evl_loop_init(&loop), "evl_loop_init");
    if (argc == 1 || (argc == 2 && strcmp(argv[1], "--demo") == 0)) {
        demo();
    } else if (argc == 3 && strcmp(argv[1], "--listen") == 0) {
        serve(argv[2]);
    } else {
        fprintf(stderr, "usage: %s [--demo | --listen ADDRESS:PORT]\n", argv[0]);
        return EXIT_FAILURE;
    }
    check(evl_loop_close(&loop), "evl_loop_close");
    return EXIT_SUCCESS;
}
