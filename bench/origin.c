/* The origin of the rows that tell latency: it answers in the load client's own loop.
 *
 * Two processes on one core wait for each other: for what the scheduler lets the other one run, some
 * milliseconds, which is more than any proxy takes. So these rows have load and origin in one.
 *
 * It answers each request head, whatever it asks for, with the page and the fields of `/small/` in
 * configs/origin.nginx.conf; Set-Cookie and X-Authentik-Id are new each time. It knows no bodies of
 * requests, and trusts that one head is not sent before the last one was answered.
 */
#define _GNU_SOURCE
#include "origin.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define ID 32 /* digits, as nginx's $request_id */

static const char page[] = "<!doctype html><title>ok</title><p>A small page of a fixed text.</p>\n";
static const char form[] =
    "HTTP/1.1 200 OK\r\nServer: origin\r\nDate: %s\r\nContent-Type: text/html\r\n"
    "Content-Length: %zu\r\nConnection: keep-alive\r\nCache-Control: no-cache\r\n"
    "Vary: Accept-Encoding, Cookie\r\nX-Authentik-Id: %032x\r\n"
    "Set-Cookie: authentik_session=%032x; HttpOnly; Path=/; SameSite=None; Secure\r\n"
    "X-Content-Type-Options: nosniff\r\nReferrer-Policy: same-origin\r\n\r\n%s";

typedef struct {
    int fd;
} Watched;

static Watched listener;
static int watching;
static char answer[2048], buffer[65536];
static size_t size, first_id, second_id;
static time_t made; /* the second of its Date */
static uint64_t answered;

/* The answer of this second. */
static void make(time_t second) {
    char date[64];
    struct tm parts;
    strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&second, &parts));
    size = (size_t)snprintf(answer, sizeof answer, form, date, sizeof page - 1, 0, 0, page);
    first_id = (size_t)(strstr(answer, "X-Authentik-Id: ") - answer) + 16;
    second_id = (size_t)(strstr(answer, "authentik_session=") - answer) + 18;
    made = second;
}

static void number(char *place, uint64_t value) {
    for (int i = ID - 1; i >= ID - 16; i--, value >>= 4) place[i] = "0123456789abcdef"[value & 15];
}

static int watch(Watched *one) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = one};
    return epoll_ctl(watching, EPOLL_CTL_ADD, one->fd, &event);
}

int origin_open(int loop_fd, int port) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int on = 1;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    watching = loop_fd;
    listener.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (listener.fd < 0) return -1;
    setsockopt(listener.fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener.fd, (struct sockaddr *)&at, sizeof at) || listen(listener.fd, 4096)) return -1;
    make(time(NULL));
    return watch(&listener);
}

static void accept_all(void) {
    for (;;) {
        int on = 1, fd = accept4(listener.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) return;
        Watched *one = malloc(sizeof *one);
        if (!one) exit(3);
        one->fd = fd;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (watch(one)) exit(3);
    }
}

static void leave(Watched *one) {
    close(one->fd);
    free(one);
}

void origin_ready(void *what) {
    Watched *one = what;
    if (one == &listener) {
        accept_all();
        return;
    }
    ssize_t got = recv(one->fd, buffer, sizeof buffer, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
        leave(one);
        return;
    }
    if (got < 4 || memcmp(buffer + got - 4, "\r\n\r\n", 4)) return; /* the head's end is to come */
    time_t second = time(NULL);
    if (second != made) make(second);
    answered++;
    number(answer + first_id, answered * 0x9e3779b97f4a7c15u);
    number(answer + second_id, answered * 0xbf58476d1ce4e5b9u);
    /* A socket that takes no 600 bytes has a peer that does not read: that is an error there. */
    if (send(one->fd, answer, size, MSG_NOSIGNAL) != (ssize_t)size) leave(one);
}
