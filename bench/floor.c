/* floor: the cost of the work itself. Sends each event to every viewer with one send() of ready bytes; nothing else.
 *
 *   floor PORT      GET /watch/R watches run R; each event is made once for all viewers. If there are several
 *                   runs, each has one viewer. POST is the control connection: "upto N.P" publishes all events below
 *                   N, and N too to the runs of the first P of 20 parts. GET /late gives 10,000 events at once.
 */
#define _GNU_SOURCE
#include <err.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 70000, PARTS = 20, LATE_EVENTS = 10000 };

static const char HEAD[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
/* As long as an event of the other servers; the mark stands where theirs does. */
static const char BLOCK[] =
    "id: %7lu\ndata: {\"event\":{\"event_type\":\"agent_thinking\",\"timestamp\":\"2026-01-01T00:00:00.000Z\","
    "\"agent_name\":\"PlanningAgent\",\"message\":\"^%019lu.%07lu handing the partial answer over to the next agent, "
    "with its sources\",\"data\":{\"progress\":25},\"id\":%7lu,\"run_id\":\"00000000000000000000000000000000\"}}\n\n";

static struct { int fd, run; } viewers[MOST];
static int count, has_runs;
static unsigned long published[MOST];                  /* of each run */

static int make_block(char *block, unsigned long number) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    unsigned long moment = (unsigned long)t.tv_sec * 1000000000u + (unsigned long)t.tv_nsec;
    return sprintf(block, BLOCK, number + 1, moment, number, number + 1);
}

/* The run's next event, to `most` viewers from the given one on. */
static void publish(int run, int from, int most) {
    static char block[1024], chunk[1100];
    int size = make_block(block, published[run]++), n = sprintf(chunk, "%x\r\n%s\r\n", size, block);
    for (int i = from; i < from + most && i < count; i++)
        if (send(viewers[i].fd, chunk, (size_t)n, MSG_NOSIGNAL) != n) viewers[i--] = viewers[--count];  /* it is gone */
}

static void allow(unsigned long limit, int part) {
    while (!has_runs && published[0] < limit) publish(0, 0, count);
    for (int i = 0; has_runs && i < count; i++)
        while (published[viewers[i].run] < limit + (viewers[i].run % PARTS < part)) publish(viewers[i].run, i, 1);
}

static void replay(int fd) {
    static char all[LATE_EVENTS * 400];
    static size_t n;
    size_t sent = 0;
    if (!n) {
        n = (size_t)sprintf(all, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
        for (unsigned long i = 0; i < LATE_EVENTS; i++) n += (size_t)make_block(all + n, i);
    }
    for (ssize_t m; sent < n && (m = send(fd, all + sent, n - sent, MSG_NOSIGNAL)) > 0;) sent += (size_t)m;
}

/* The request of a viewer, or of a late one. */
static void take(int fd, const char *text) {
    int run;
    if (sscanf(text, "GET /watch/%d", &run) == 1 && run >= 0 && run < MOST && count < MOST) {
        has_runs |= run > 0;
        viewers[count].run = run;
        viewers[count++].fd = fd;
        send(fd, HEAD, sizeof HEAD - 1, MSG_NOSIGNAL);
        return;
    }
    if (!strncmp(text, "GET /late", 9)) replay(fd);
    close(fd);
}

/* The generator sends each limit in one piece, and loopback cuts none. At the end all its viewers are gone, too. */
static int on_control(int fd) {
    static char text[65536];
    unsigned long limit;
    int part;
    ssize_t n = recv(fd, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = 0;
    for (char *p = text; (p = strstr(p, "upto ")) && sscanf(p, "upto %lu.%d", &limit, &part) == 2; p++)
        allow(limit, part);
    if (n > 0) return fd;
    while (count) close(viewers[--count].fd);
    close(fd);
    return -1;
}

int main(int argc, char **argv) {
    char text[4096];
    struct sockaddr_in address = {AF_INET, htons((uint16_t)atoi(argv[argc - 1])), {htonl(INADDR_LOOPBACK)}, {0}};
    int listening = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(listening, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);  /* accepted sockets inherit it */
    if (bind(listening, (void *)&address, sizeof address) || listen(listening, 4096)) err(1, "listen");
    for (struct pollfd ready[] = {{listening, POLLIN, 0}, {-1, POLLIN, 0}}; poll(ready, 2, -1) > 0;) {
        if (ready[1].revents) ready[1].fd = on_control(ready[1].fd);
        if (!ready[0].revents) continue;
        int fd = accept(listening, NULL, NULL);
        ssize_t n = recv(fd, text, sizeof text - 1, 0);
        text[n > 0 ? n : 0] = 0;
        if (!strncmp(text, "POST", 4)) ready[1].fd = fd;
        else take(fd, text);
    }
    return 0;
}
