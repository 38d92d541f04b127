/* floor: what the work itself costs. Hands each event to every viewer with one send() of ready bytes; nothing else.
 *
 *   floor PORT      GET /watch/R watches run R, of which each event is made once for all; where there are several
 *                   runs, each has one viewer. POST is the control connection: "upto N.P" publishes all events below
 *                   N, and N too to the runs of the first P of 20 parts. GET /late gives 10,000 events at once.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 70000, PARTS = 20, LATE_EVENTS = 10000 };

static const char HEAD[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
/* As long as an event of the other servers; the mark stands where theirs does. */
static const char BLOCK[] =
    "id: %7llu\ndata: {\"event\":{\"event_type\":\"agent_thinking\",\"timestamp\":\"2026-01-01T00:00:00.000Z\","
    "\"agent_name\":\"PlanningAgent\",\"message\":\"^%019llu.%07llu handing the partial answer over to the next agent, with its sources\","
    "\"data\":{\"progress\":25},\"id\":%7llu,\"run_id\":\"00000000000000000000000000000000\"}}\n\n";

static struct { int fd, run; } viewers[MOST];
static int count, has_runs;
static unsigned long long published[MOST];             /* of each run */

static int make_block(char *block, size_t room, unsigned long long number) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    unsigned long long moment = (unsigned long long)t.tv_sec * 1000000000u + (unsigned long long)t.tv_nsec;
    return snprintf(block, room, BLOCK, number + 1, moment, number, number + 1);
}

/* The run's next event, to `most` viewers from the given one on. */
static void publish(int run, int from, int most) {
    static char block[1024], chunk[1100];
    int size = make_block(block, sizeof block, published[run]++);
    int n = snprintf(chunk, sizeof chunk, "%x\r\n%s\r\n", size, block);
    for (int i = from; i < from + most && i < count; i++)
        if (send(viewers[i].fd, chunk, (size_t)n, MSG_NOSIGNAL) != n) viewers[i--] = viewers[--count];  /* full or gone */
}

static void allow(unsigned long long limit, int part) {
    if (!has_runs)
        while (published[0] < limit) publish(0, 0, count);
    else
        for (int i = 0; i < count; i++)
            while (published[viewers[i].run] < limit + (viewers[i].run % PARTS < part)) publish(viewers[i].run, i, 1);
}

static void replay(int fd) {
    static char all[LATE_EVENTS * 400];
    static size_t n;
    size_t sent = 0;
    if (!n) n = (size_t)sprintf(all, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
    static int made;
    for (; made < LATE_EVENTS; made++) n += (size_t)make_block(all + n, sizeof all - n, (unsigned long long)made);
    for (ssize_t m; sent < n && (m = send(fd, all + sent, n - sent, MSG_NOSIGNAL)) > 0;) sent += (size_t)m;
    shutdown(fd, SHUT_WR);
}

static void take(int fd, char *text, size_t n) {
    static int control;
    static char kept[64];
    static size_t have;
    text[n] = 0;
    int run;
    if (!strncmp(text, "GET /late", 9)) {
        replay(fd);
        return;
    }
    if (sscanf(text, "GET /watch/%d", &run) == 1 && run >= 0 && run < MOST) {
        has_runs |= run > 0;
        if (count < MOST && send(fd, HEAD, sizeof HEAD - 1, MSG_NOSIGNAL) > 0) {
            viewers[count].fd = fd;
            viewers[count++].run = run;
        }
        return;
    }
    if (!strncmp(text, "POST", 4)) control = fd, have = 0;
    if (fd != control) return;
    for (size_t i = 0; i < n; i++) {
        unsigned long long limit;
        int part;
        if (have < sizeof kept - 1) kept[have++] = text[i];
        if (text[i] != '\n') continue;
        kept[have] = 0;
        have = 0;
        if (sscanf(kept, "upto %llu.%d", &limit, &part) == 2) allow(limit, part);
    }
}

int main(int argc, char **argv) {
    static char text[65536];
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    address.sin_port = htons((unsigned short)(argc > 1 ? atoi(argv[1]) : 0));
    int listening = socket(AF_INET, SOCK_STREAM, 0), one = 1, epoll = epoll_create1(0);
    setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listening, (void *)&address, sizeof address) || listen(listening, 4096)) {
        perror("floor");
        return 1;
    }
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listening}, ready[256];
    epoll_ctl(epoll, EPOLL_CTL_ADD, listening, &event);
    for (;;) {
        int n = epoll_wait(epoll, ready, 256, -1);
        for (int i = 0; i < n; i++) {
            int fd = ready[i].data.fd;
            if (fd == listening) {
                event.data.fd = accept(listening, NULL, NULL);
                setsockopt(event.data.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                epoll_ctl(epoll, EPOLL_CTL_ADD, event.data.fd, &event);
                continue;
            }
            ssize_t got = recv(fd, text, sizeof text - 1, 0);
            if (got > 0) {
                take(fd, text, (size_t)got);
                continue;
            }
            for (int v = 0; v < count; v++)
                if (viewers[v].fd == fd) viewers[v] = viewers[--count];
            epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL);
            close(fd);
        }
    }
}
