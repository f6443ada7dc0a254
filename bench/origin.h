/* The origin within the load client, for rows that tell latency: see origin.c. */
#ifndef ORIGIN_H
#define ORIGIN_H

/* Listens on a port of 127.0.0.1. Returns 0, or -1 with errno. */
int origin_open(int loop_fd, int port);
/* An event of the loop that is none of the client's: `what` is its data.ptr. */
void origin_ready(void *what);
#endif
