/* The HTTP/1.1 load client of the rows whose requests must all differ, or keep a constant rate.
 *
 *   client PORT plain|tls CONNECTIONS RATE WARM SECONDS TEMPLATES FIRST CHAOS [ORIGIN]
 *
 * One epoll loop on one thread, one request in flight on each connection. RATE 0 is a closed loop:
 * an answer brings the next request. Otherwise each request has a time at which it is due, at a
 * constant rate, and its latency counts from then, so a stall is charged to every request that it
 * delays (no coordinated omission).
 *
 * TEMPLATES holds requests made before the clock starts, each as two little-endian 32-bit numbers
 * (bytes of the request; where its number's eight digits stand, or 0) and the bytes. What is left
 * to do for a request is to write its number, which begins at FIRST.
 *
 * It prints `WARM` when counting begins, `END` when it stops, and then the result. CHAOS is how
 * many requests in a thousand are cut short by a reset, for the soak; failures are then expected
 * and only counted.
 *
 * ORIGIN is a port on which it is the origin as well (origin.c), in the same loop.
 *
 * It trusts its peers: an answer is 2xx or 3xx, framed by Content-Length or chunked, and anything
 * else is an error, as is a connection that ends with a request on it.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "origin.h"

#define READ (256 * 1024)
#define HEAD 16384      /* of a response */
#define DRAIN 2000000   /* microseconds that the answers of a constant rate are waited for */
#define PATIENCE 8000000 /* microseconds without one byte: that request is an error */
#define HOST "sso.bench.test"

enum { CONNECTING, FREE, BUSY, DEAD };

typedef struct {
    uint32_t size, number;
    char *bytes;
} Template;

typedef struct {
    int fd, state, in_body, chunked, closing, cut, writing;
    SSL *ssl;
    const Template *out; /* what is being sent, and how much of it is */
    size_t sent;
    uint64_t left, due, touched;
    size_t have; /* bytes of the response's head, or of the end of a chunked body */
    char in[HEAD];
} Conn;

static Conn *conns;
static Template *templates;
static uint32_t count, next_template, number;
static int connections, port, loop_fd, chaos;
static SSL_CTX *context;
static char buffer[READ];

static uint64_t start, from, until; /* microseconds: of everything, of what counts */
static double gap;                  /* between two requests at a constant rate; 0: closed loop */
static uint64_t place, answered, in_window, errors, reopened, bytes, resets, refused;
static const char *why = "";
static int *idle, idle_first, idle_count; /* a ring: the connection that rested longest is next */
static uint64_t was_idle; /* since when a connection was free for what is due */

static uint32_t *waits, *lates;
static size_t waits_size, lates_size, waits_count, lates_count;

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void note(uint32_t **values, size_t *size, size_t *used, uint64_t value) {
    if (*used == *size) {
        *size = *size ? *size * 2 : 1 << 16;
        *values = realloc(*values, *size * sizeof **values);
        if (!*values) exit(3);
    }
    (*values)[(*used)++] = value > UINT32_MAX ? UINT32_MAX : (uint32_t)value;
}

static void die(const char *text) {
    fprintf(stderr, "client: %s: %s\n", text, strerror(errno));
    exit(3);
}

static void failed(const char *text) {
    errors++;
    why = text;
}

static void watch(Conn *c, int events, int how) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(loop_fd, how, c->fd, &event)) die("epoll_ctl");
}

static void open_one(Conn *c) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    int on = 1;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) die("socket");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(c->fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS) die("connect");
    c->state = CONNECTING;
    c->touched = now();
    c->in_body = c->chunked = c->closing = c->cut = 0;
    c->have = c->left = 0;
    c->out = NULL;
    c->ssl = NULL;
    if (context) {
        c->ssl = SSL_new(context);
        SSL_set_fd(c->ssl, c->fd);
        SSL_set_connect_state(c->ssl);
        SSL_set_tlsext_host_name(c->ssl, HOST);
    }
    c->writing = 1;
    watch(c, EPOLLIN | EPOLLOUT, EPOLL_CTL_ADD);
}

static void close_one(Conn *c, int reset) {
    struct linger hard = {1, 0};
    if (c->state == FREE && gap > 0.0) { /* it stands in the ring: the others move up */
        int kept = 0;
        for (int i = 0; i < idle_count; i++) {
            int one = idle[(idle_first + i) % connections];
            if (one != (int)(c - conns)) idle[(idle_first + kept++) % connections] = one;
        }
        idle_count = kept;
    }
    if (reset) setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    if (c->ssl) SSL_free(c->ssl); /* no close_notify: nobody here waits for one */
    close(c->fd);
    c->state = DEAD;
}

static void reopen(Conn *c, int reset) {
    reopened++;
    close_one(c, reset);
    open_one(c);
}

/* Writes what it can; 0: blocked, 1: all that was asked for, -1: broken. */
static int put(Conn *c, const char *data, size_t size, size_t *done) {
    while (*done < size) {
        ssize_t n;
        if (c->ssl) {
            ERR_clear_error();
            n = SSL_write(c->ssl, data + *done, (int)(size - *done));
            if (n <= 0) {
                int e = SSL_get_error(c->ssl, (int)n);
                return e == SSL_ERROR_WANT_WRITE || e == SSL_ERROR_WANT_READ ? 0 : -1;
            }
        } else {
            n = send(c->fd, data + *done, size - *done, MSG_NOSIGNAL);
            if (n < 0) return errno == EAGAIN ? 0 : -1;
        }
        *done += n;
    }
    return 1;
}

static void broken(Conn *c, const char *text) {
    failed(text);
    reopen(c, 0);
}

static void go_on_writing(Conn *c) {
    size_t size = c->cut ? (size_t)c->cut : c->out->size;
    int got = put(c, c->out->bytes, size, &c->sent);
    if (got < 0) {
        broken(c, "write");
        return;
    }
    if (got && c->cut) { /* a part of the request is out: now the client is gone */
        resets++;
        reopen(c, 1);
        return;
    }
    if ((got == 0) != c->writing) {
        c->writing = !got;
        watch(c, got ? EPOLLIN : EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD);
    }
    if (got) c->out = NULL;
}

static void begin(Conn *c, uint64_t due, uint64_t t) {
    Template *one = &templates[next_template++ % count];
    uint32_t value = number++ % 100000000;
    if (one->number)
        for (int i = 7; i >= 0; i--, value /= 10) one->bytes[one->number + i] = '0' + value % 10;
    c->state = BUSY;
    c->due = due;
    c->touched = t;
    c->out = one;
    c->sent = 0;
    c->cut = 0;
    if (chaos && rand() % 1000 < chaos) c->cut = 1 + rand() % one->size;
    go_on_writing(c);
}

static void rest(Conn *c, uint64_t t) {
    c->state = FREE;
    if (gap == 0.0) {
        begin(c, t, t);
        return;
    }
    if (!idle_count) was_idle = t;
    idle[(idle_first + idle_count++) % connections] = (int)(c - conns);
}

static void complete(Conn *c) {
    uint64_t t = now();
    answered++;
    if (t >= from && t < until) in_window++;
    if (gap == 0.0 ? t >= from && t < until : c->due >= from && c->due < until)
        note(&waits, &waits_size, &waits_count, t - c->due);
    c->in_body = c->chunked = 0;
    c->have = 0;
    if (c->out) { /* answered before all of the request was sent */
        reopen(c, 0);
    } else if (c->closing) {
        reopen(c, 0);
    } else {
        rest(c, t);
    }
}

/* The facts of a response's head; 0 where it is no good one. */
static int judge(Conn *c, size_t size) {
    char *line = memchr(c->in, '\n', size), *end = c->in + size;
    if (memcmp(c->in, "HTTP/1.1 ", 9)) return 0;
    if (c->in[9] != '2' && c->in[9] != '3') {
        if (!chaos || c->in[9] != '5') return 0;
        refused++;
    }
    c->left = 0;
    for (; line && ++line < end; line = memchr(line, '\n', end - line)) {
        int first = *line | 0x20;
        if (first == 'c' && !strncasecmp(line, "content-length:", 15))
            c->left = strtoull(line + 15, NULL, 10);
        else if (first == 'c' && !strncasecmp(line, "connection: close", 17))
            c->closing = 1;
        else if (first == 't' && !strncasecmp(line, "transfer-encoding: chunked", 26))
            c->chunked = 1;
    }
    return 1;
}

/* Bytes of an answer; 0 if the connection is over or rests. */
static int take(Conn *c, const char *data, size_t size) {
    bytes += size;
    if (c->state != BUSY) {
        broken(c, "bytes that nobody asked for");
        return 0;
    }
    if (!c->in_body) {
        size_t fits = size < HEAD - 1 - c->have ? size : HEAD - 1 - c->have;
        char *end;
        memcpy(c->in + c->have, data, fits);
        end = memmem(c->in, c->have + fits, "\r\n\r\n", 4);
        if (!end) {
            c->have += fits;
            if (c->have < HEAD - 1) return 1;
            broken(c, "a response head without end");
            return 0;
        }
        size_t head = end + 4 - c->in, used = head - c->have;
        c->in[head] = 0;
        if (!judge(c, head)) {
            broken(c, "status");
            return 0;
        }
        data += used;
        size -= used;
        c->in_body = 1;
        c->have = 0;
    }
    if (c->chunked) { /* the bench's bodies hold no line ends, so these bytes are the end */
        size_t keep = size < 5 ? size : 5;
        if (c->have + keep > 5) {
            memmove(c->in, c->in + c->have + keep - 5, 5 - keep);
            c->have = 5 - keep;
        }
        memcpy(c->in + c->have, data + size - keep, keep);
        c->have += keep;
        if (c->have < 5 || memcmp(c->in, "0\r\n\r\n", 5)) return 1;
    } else if (size < c->left) {
        c->left -= size;
        if (!chaos || rand() % 1000 >= chaos) return 1;
        resets++;
        reopen(c, 1);
        return 0;
    } else if (size > c->left) {
        broken(c, "more bytes than announced");
        return 0;
    }
    complete(c);
    return 0;
}

static void readable(Conn *c) {
    for (;;) {
        ssize_t n;
        if (c->ssl) {
            ERR_clear_error();
            n = SSL_read(c->ssl, buffer, READ);
            if (n <= 0) {
                int e = SSL_get_error(c->ssl, (int)n);
                if (e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE) return;
                n = 0;
            }
        } else {
            n = recv(c->fd, buffer, READ, 0);
            if (n < 0 && errno == EAGAIN) return;
        }
        if (n <= 0) {
            broken(c, c->state == BUSY ? "read" : "closed at rest");
            return;
        }
        c->touched = now();
        if (!take(c, buffer, n)) return;
        if (!c->ssl && n < READ) return;
    }
}

static void ready(Conn *c, uint32_t events) {
    if (c->state == CONNECTING) {
        int problem = 0;
        socklen_t size = sizeof problem;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &problem, &size);
        if (problem) {
            broken(c, "connect");
            return;
        }
        if (c->ssl) {
            int got = SSL_do_handshake(c->ssl);
            if (got != 1) {
                int e = SSL_get_error(c->ssl, got);
                if (e != SSL_ERROR_WANT_READ && e != SSL_ERROR_WANT_WRITE) {
                    broken(c, "handshake");
                } else if (c->writing != (e == SSL_ERROR_WANT_WRITE)) {
                    c->writing = e == SSL_ERROR_WANT_WRITE;
                    watch(c, c->writing ? EPOLLIN | EPOLLOUT : EPOLLIN, EPOLL_CTL_MOD);
                }
                return;
            }
        }
        if (c->writing) {
            c->writing = 0;
            watch(c, EPOLLIN, EPOLL_CTL_MOD);
        }
        rest(c, now());
        return;
    }
    if (events & EPOLLOUT && c->out) {
        go_on_writing(c);
        if (c->state != BUSY) return;
    }
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) readable(c);
}

static void load_templates(const char *path) {
    FILE *file = fopen(path, "rb");
    uint32_t facts[2];
    if (!file) die(path);
    while (fread(facts, 4, 2, file) == 2) {
        templates = realloc(templates, (count + 1) * sizeof *templates);
        if (!templates) exit(3);
        Template *one = &templates[count++];
        *one = (Template){facts[0], facts[1], malloc(facts[0])};
        if (!one->bytes || fread(one->bytes, 1, facts[0], file) != facts[0]) die(path);
    }
    fclose(file);
    if (!count) die("no templates");
}

static int by_size(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static uint32_t quantile(const uint32_t *values, size_t used, double share) {
    size_t at = (size_t)(used * share);
    return used ? values[at < used ? at : used - 1] : 0;
}

static double used_cpu(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return used.ru_utime.tv_sec + used.ru_stime.tv_sec +
           (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

/* Sends what is due. Returns microseconds until the next is. */
static uint64_t send_due(void) {
    for (;;) {
        uint64_t t = now(), due = start + (uint64_t)(place * gap);
        if (due >= until) return 50000;
        if (due > t) return due - t;
        if (!idle_count) return 50000; /* an answer will wake us */
        Conn *c = &conns[idle[idle_first]];
        idle_first = (idle_first + 1) % connections;
        idle_count--;
        if (due >= from)
            note(&lates, &lates_size, &lates_count, t - (due > was_idle ? due : was_idle));
        place++;
        begin(c, due, t);
    }
}

static void check_stuck(uint64_t t) {
    for (int i = 0; i < connections; i++)
        if ((conns[i].state == BUSY || conns[i].state == CONNECTING) &&
            t - conns[i].touched > PATIENCE)
            broken(&conns[i], "timeout");
}

static void run(void) {
    struct epoll_event events[1024];
    uint64_t t = now(), checked = t, pending = 0;
    int warm = 0, over = 0;
    double cpu = 0.0;
    for (;;) {
        uint64_t pause = 50000;
        if (gap > 0.0 && !over) pause = send_due();
        struct timespec wait = {0, (long)pause * 1000};
        int got = epoll_pwait2(loop_fd, events, 1024, &wait, NULL);
        for (int i = 0; i < got; i++) {
            Conn *one = events[i].data.ptr;
            if (one >= conns && one < conns + connections)
                ready(one, events[i].events);
            else
                origin_ready(one);
        }
        t = now();
        if (!warm && t >= from) {
            warm = 1;
            cpu = used_cpu();
            printf("WARM\n");
            fflush(stdout);
        }
        if (!over && t >= until) {
            if (gap > 0.0) send_due(); /* what came due since the last look */
            over = 1;
            cpu = used_cpu() - cpu;
            printf("END\n");
            fflush(stdout);
            if (gap == 0.0) break;
        }
        if (over && (t > until + DRAIN || waits_count >= lates_count)) break;
        if (t - checked > 1000000) check_stuck(checked = t);
    }
    uint64_t window = (over ? until : t) - from;
    if (gap > 0.0) { /* what never came has waited at least until now */
        for (int i = 0; i < connections; i++)
            if (conns[i].state == BUSY && conns[i].due >= from) {
                note(&waits, &waits_size, &waits_count, t - conns[i].due);
                pending++;
            }
        for (; start + (uint64_t)(place * gap) < until; place++) {
            uint64_t due = start + (uint64_t)(place * gap);
            if (due < from) continue;
            note(&waits, &waits_size, &waits_count, t - due);
            pending++;
        }
    }
    qsort(waits, waits_count, sizeof *waits, by_size);
    qsort(lates, lates_count, sizeof *lates, by_size);
    printf("BENCH {\"requests\":%lu,\"micros\":%lu,\"bytes\":%lu,\"errors\":%lu,\"reopened\":%lu,"
           "\"resets\":%lu,\"refused\":%lu,\"lost\":%lu,\"client_cpu\":%.6f,\"p50\":%u,\"p90\":%u,"
           "\"p99\":%u,\"p999\":%u,\"late_p99\":%u,\"why\":\"%s\"}\n",
           in_window, window, bytes, errors, reopened, resets, refused, pending, cpu,
           quantile(waits, waits_count, 0.5), quantile(waits, waits_count, 0.9),
           quantile(waits, waits_count, 0.99), quantile(waits, waits_count, 0.999),
           quantile(lates, lates_count, 0.99), why);
}

int main(int argc, char **argv) {
    if (argc != 10 && argc != 11) {
        fprintf(stderr, "client PORT plain|tls CONNECTIONS RATE WARM SECONDS TEMPLATES FIRST CHAOS"
                        " [ORIGIN]\n");
        return 2;
    }
    port = atoi(argv[1]);
    connections = atoi(argv[3]);
    double rate = atof(argv[4]);
    gap = rate > 0.0 ? 1e6 / rate : 0.0;
    load_templates(argv[7]);
    number = (uint32_t)strtoul(argv[8], NULL, 10);
    next_template = number;
    chaos = atoi(argv[9]);
    srand(number);
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_TIMERSLACK, 1000UL); /* wake up within a microsecond of what is due */
    if (!strcmp(argv[2], "tls")) {
        static const unsigned char alpn[] = "\x08http/1.1";
        context = SSL_CTX_new(TLS_client_method()); /* version, cipher and curve: OPENSSL_CONF */
        SSL_CTX_set_alpn_protos(context, alpn, 9);
        SSL_CTX_set_read_ahead(context, 1);
        SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    }
    loop_fd = epoll_create1(EPOLL_CLOEXEC);
    conns = calloc(connections, sizeof *conns);
    idle = calloc(connections, sizeof *idle);
    if (!conns || !idle || loop_fd < 0) die("start");
    if (argc == 11 && origin_open(loop_fd, atoi(argv[10]))) die("origin");
    start = now();
    from = start + (uint64_t)(atof(argv[5]) * 1e6);
    until = from + (uint64_t)(atof(argv[6]) * 1e6);
    for (int i = 0; i < connections; i++) open_one(&conns[i]);
    run();
    return 0;
}
