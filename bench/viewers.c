/* viewers: watches one server with N connections and counts every event on each of them.
 *
 *   viewers N FIRST CONTROL LATE LATE_EVENTS REQUESTS REQUEST... [GREETING...]
 *
 * Viewer i sends request i modulo REQUESTS to the port in its Host line, and on a WebSocket a greeting in the same way.
 * FIRST is the number of the first event. Every event carries a mark of fixed width, ^TTTTTTTTTTTTTTTTTTT.SSSSSSS: its
 * time of publishing in ns of CLOCK_MONOTONIC, and its number. The number proves order and completeness, the time gives
 * the latency.
 *
 * A control connection, whose head is CONTROL, carries backpressure: "upto N.00" lets the server publish all events
 * below N. At most WINDOW events are on their way to the slowest viewer. In a paced run there is one event at each tick
 * instead. Many runs take turns in PARTS parts of it: after "upto N.05" runs 0 to 4 of every PARTS publish N, too.
 * Meanwhile a late viewer may come again and again: LATE is its request, for a run of LATE_EVENTS that has ended.
 *
 * First all viewers connect. Then each line on stdin, "EVENTS WINDOW RATE PARTS STALLED LATE_PAUSE_MS", is one run,
 * answered by one JSON object. RATE 0 is as fast as the slowest viewer reads. The first STALLED viewers don't read
 * during the run; a second answer counts what they get afterwards. The end of stdin ends the program.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MARK = 28, TIME_AT = 1, NUMBER_AT = 21, READ_BYTES = 1 << 18, OPENING_AT_ONCE = 64, MOST_REPLAYS = 4096 };
enum { CONTROL = 1 << 30, COMMANDS };   /* in the epoll set, beside the viewers' numbers */
enum { CLOSE = 8, PING = 9, PONG = 0x8a, TEXT = 0x81 };
/* ns. MOMENT is the time between two checks whether the server is silent, NAP the generator's sleep between two rounds
 * of reads: without it each event would wake the generator, at the server's cost. */
enum { SECOND = 1000000000, MOMENT = SECOND / 5, NAP = SECOND / 2000 };

typedef struct {
    int fd;                             /* -1 when it is closed */
    uint32_t next;                      /* the number expected next */
    uint8_t cut;                        /* bytes of a mark that the end of a read has cut, kept in `tail` */
    uint8_t header_bytes, kind;         /* WebSocket: of the frame header so far; of the frame */
    uint64_t left;                      /* WebSocket: bytes of the frame still to come */
    char tail[MARK];
    unsigned char header[10];
} viewer;

static viewer *viewers, *late;          /* the late viewer is the last */
static int viewer_count, is_websocket, epoll, control, request_count, greeting_count;
static char **requests, **greetings, *late_request, read_buffer[READ_BYTES + 1];

static uint64_t first, events, completed, allowed;     /* completed: all viewers have them */
static uint64_t delivered, gaps, repeats, closed, bytes_in;
static uint32_t *seen;                                 /* viewers that have event first + i */
static uint32_t *latencies;                            /* in 0.1 us */
static uint64_t latency_count, read_at;
static double rate;                                    /* above 0 while a paced run polls without sleeping */
static uint64_t began, parts, ticks, delayed, idle_ns;
static uint64_t late_events, late_due, late_began, late_pause;  /* late_due 0: it is reading, or unwanted */
static uint64_t late_bytes, replay_count;
static uint32_t replays[MOST_REPLAYS];                 /* KB a second */

static uint64_t clock_ns(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}
static uint64_t now(void) { return clock_ns(CLOCK_MONOTONIC); }

static uint64_t digits(const char *text, int count) {
    uint64_t value = 0;
    for (int i = 0; i < count; i++) value = value * 10 + (uint64_t)(text[i] - '0');
    return value;
}

static void count_event(viewer *v, const char *mark) {
    uint64_t number = digits(mark + NUMBER_AT, 7);
    if (number < v->next) { repeats++; return; }
    gaps += number - v->next;
    v->next = (uint32_t)number + 1;
    if (v == late) return;
    delivered++;
    if (number < first || number - first >= events) return;
    seen[number - first]++;
    if (rate > 0) latencies[latency_count++] = (uint32_t)((read_at - digits(mark + TIME_AT, 19)) / 100);
}

/* Counts the marks of the next n bytes. One that is cut waits in `tail` for its rest. */
static void scan(viewer *v, const char *p, size_t n) {
    if (v->cut) {
        size_t missing = MARK - v->cut, k = missing < n ? missing : n;
        memcpy(v->tail + v->cut, p, k);
        v->cut += k;
        if (v->cut < MARK) return;
        count_event(v, v->tail);
        v->cut = 0;
        p += k, n -= k;
    }
    for (const char *end = p + n; (p = memchr(p, '^', (size_t)(end - p))); p += MARK) {
        if (end - p < MARK) { v->cut = (uint8_t)(end - p); memcpy(v->tail, p, v->cut); return; }
        count_event(v, p);
    }
}

static void watch(int fd, int who) {
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = (uint64_t)who};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event)) err(1, "epoll_ctl");
}

/* Connects and sends the request. */
static int ask(const char *request) {
    const char *host = strstr(request, "Host: 127.0.0.1:");
    struct sockaddr_in to = {AF_INET, htons((uint16_t)atoi(host + 16)), {htonl(INADDR_LOOPBACK)}, {0}};
    struct timeval longest = {120, 0};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &longest, sizeof longest);
    if (connect(fd, (void *)&to, sizeof to)) err(1, "connect");
    if (send(fd, request, strlen(request), MSG_NOSIGNAL) < 0) err(1, "send");
    return fd;
}

/* The end of a connection: the late viewer has read all; any other has lost its server. */
static void end(viewer *v) {
    close(v->fd);
    v->fd = -1;
    if (v != late) { closed++; return; }
    if (v->next != late_events) errx(1, "the replay ended after %u of %lu events", v->next, late_events);
    late_due = now() + late_pause;
    if (replay_count < MOST_REPLAYS) replays[replay_count++] = (uint32_t)(late_bytes * 1000000 / (now() - late_began));
}

/* A masked frame, as clients must send them; the mask is 0, so that the payload stays readable. */
static void send_frame(viewer *v, unsigned char kind, const void *payload, size_t n) {
    unsigned char frame[140] = {kind, (unsigned char)(0x80 | n)};
    if (n > 125) errx(1, "a frame of %zu bytes is too long", n);
    memcpy(frame + 6, payload, n);
    send(v->fd, frame, 6 + n, MSG_NOSIGNAL | MSG_DONTWAIT);  /* a closed one is noticed by its read */
}

/* Adds a byte to the frame's header. Returns whether the header is complete, and thus `kind` and `left` known. */
static int take_header(viewer *v, unsigned char byte) {
    v->header[v->header_bytes++] = byte;
    int size = v->header[1] & 127, needed = v->header_bytes == 1 || size < 126 ? 2 : size == 126 ? 4 : 10;
    if (v->header_bytes < needed) return 0;
    v->left = needed == 2 ? (uint64_t)size : 0;
    for (int i = 2; i < needed; i++) v->left = v->left << 8 | v->header[i];
    v->kind = v->header[0] & 15;
    v->header_bytes = 0;
    return 1;
}

static void take_frames(viewer *v, const char *p, size_t n) {
    while (n && v->fd >= 0) {
        if (v->left) {
            size_t k = v->left < n ? v->left : n;
            if (v->kind < CLOSE) scan(v, p, k);
            v->left -= k, p += k, n -= k;
            continue;
        }
        n--;
        if (!take_header(v, (unsigned char)*p++)) continue;
        if (v->kind == CLOSE) end(v);
        if (v->kind == PING && n >= v->left) send_frame(v, PONG, p, v->left);
    }
}

static void take(viewer *v) {
    if (v->fd < 0) return;
    ssize_t n = recv(v->fd, read_buffer, READ_BYTES, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) { end(v); return; }
    *(v == late ? &late_bytes : &bytes_in) += (uint64_t)n;
    if (rate > 0) read_at = now();
    if (is_websocket && v != late) take_frames(v, read_buffer, (size_t)n);
    else scan(v, read_buffer, (size_t)n);
}

/* Always 16 bytes, so that it is one chunk of a chunked request too, as which HTTP servers read it. */
static void allow(uint64_t number, uint64_t part) {
    char line[60];
    int n = snprintf(line, sizeof line, "10\r\nupto %07lu.%02lu\n\r\n", number, part);
    if (send(control, line, (size_t)n, MSG_NOSIGNAL) != n) err(1, "control");
    allowed = number;
}

/* Handles what has come, or comes within the time; -1 waits for ever. Returns whether a command is there. */
static int pump(long timeout_ns) {
    static struct epoll_event ready[1024];
    uint64_t start = now();
    int count = epoll_pwait2(epoll, ready, 1024, timeout_ns < 0 ? NULL : &(struct timespec){0, timeout_ns}, NULL);
    int has_command = 0;
    if (rate > 0 && count == 0) idle_ns += now() - start;
    for (int i = 0; i < count; i++) {
        int who = (int)ready[i].data.u64;
        if (who == CONTROL) errx(1, "the server refused or closed the control connection");
        else if (who == COMMANDS) has_command = 1;
        else take(&viewers[who]);
    }
    return has_command;
}

static int compare(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static void report(uint64_t expected, double seconds, double busy) {
    printf("{\"delivered\":%lu,\"lost\":%ld,\"gaps\":%lu,\"repeats\":%lu,\"closed\":%lu,\"seconds\":%.6f,"
           "\"busy\":%.3f,\"late_ms\":%.3f",
           delivered, (long)(expected - delivered), gaps, repeats, closed, seconds, busy, (double)delayed / 1e6);
    if (latency_count) {
        qsort(latencies, latency_count, sizeof *latencies, compare);
        double p50 = latencies[(latency_count - 1) / 2], p99 = latencies[(uint64_t)((double)(latency_count - 1) * .99)];
        printf(",\"p50_ms\":%.4f,\"p99_ms\":%.4f", p50 / 1e4, p99 / 1e4);
    }
    if (replay_count) {
        qsort(replays, replay_count, sizeof *replays, compare);
        printf(",\"replay_mb_s\":%.2f", replays[replay_count / 2] / 1e3);
    }
    puts("}");
}

/* The viewers that did not read during the run read now. Reports how many got everything, and how many were closed. */
static void release(int stalled) {
    uint64_t before = delivered, was_closed = closed, last = now(), last_bytes = bytes_in;
    for (int i = 0; i < stalled; i++) watch(viewers[i].fd, i);
    while (now() - last < 2ull * SECOND) {
        pump(MOMENT);
        if (bytes_in != last_bytes) last = now();
        last_bytes = bytes_in;
    }
    printf("{\"caught_up\":%lu,\"of\":%lu,\"closed\":%lu}\n",
           delivered - before, (uint64_t)stalled * events, closed - was_closed);
}

/* Paced: publishes the next events if they are due, and lets the late viewer connect. */
static void tick(void) {
    uint64_t due = began + (uint64_t)((double)(ticks + 1) * 1e9 / rate / (double)parts), t = now();
    if (late_due && t >= late_due) {
        late_began = t;
        late_due = late_bytes = 0;
        *late = (viewer){.fd = ask(late_request)};
        watch(late->fd, viewer_count);
    }
    if (ticks == events * parts || t < due) return;
    if (t - due > delayed) delayed = t - due;
    ticks++;
    allow(first + ticks / parts, ticks % parts);
}

/* As fast as the slowest viewer reads: keeps `window` events on their way to it. */
static void refill(uint64_t window) {
    uint64_t most = completed + window < events ? completed + window : events;
    if (first + most > allowed) allow(first + most, 0);
    if (window > 1) nanosleep(&(struct timespec){0, NAP}, NULL);
}

/* Until all have everything; or an event is lost or repeated, or nothing comes for a while, which gives no result. */
static uint64_t run_all(uint64_t reading, uint64_t window) {
    uint64_t last = began, last_delivered = 0;
    while (completed < events && now() - last < 20ull * SECOND && !gaps && !repeats && !closed) {
        if (rate > 0) tick();
        else refill(window);
        pump(rate > 0 ? 0 : MOMENT);
        while (completed < events && seen[completed] >= reading) completed++;
        if (delivered != last_delivered) last = now();
        last_delivered = delivered;
    }
    return last;
}

static void run(const char *line) {
    uint64_t window, pause_ms;
    int stalled;
    if (sscanf(line, "%lu %lu %lf %lu %d %lu", &events, &window, &rate, &parts, &stalled, &pause_ms) != 6)
        errx(1, "not a run: %s", line);
    free(seen);
    free(latencies);
    seen = calloc(events, sizeof *seen);
    latencies = calloc(rate > 0 ? events * (uint64_t)viewer_count : 1, sizeof *latencies);
    delivered = gaps = repeats = closed = completed = latency_count = replay_count = 0;
    idle_ns = ticks = delayed = 0;
    for (int i = 0; i < stalled; i++) epoll_ctl(epoll, EPOLL_CTL_DEL, viewers[i].fd, NULL);
    uint64_t expected = (uint64_t)(viewer_count - stalled), cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    allowed = first;
    began = now();
    late_pause = pause_ms * 1000000;
    late_due = late_pause ? began + late_pause : 0;
    uint64_t ended = run_all(expected, window), passed = now() - began;
    if (late->fd >= 0) close(late->fd);  /* it is still reading, so it gives no figure */
    late->fd = -1;
    uint64_t busy = rate > 0 ? passed - idle_ns : clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    rate = 0;
    report(expected * events, (double)(ended - began) / 1e9, (double)busy / (double)passed);
    if (stalled) release(stalled);
    first += events;
}

/* Reads the head of the response and nothing else, and sends the greeting. */
static void greet(int who) {
    char *rest = NULL;
    int fd = viewers[who].fd;
    while (!rest) {
        ssize_t n = recv(fd, read_buffer, READ_BYTES, MSG_PEEK);
        if (n <= 0) errx(1, "closed by the server while opening");
        read_buffer[n] = 0;
        rest = strstr(read_buffer, "\r\n\r\n");
    }
    if (memcmp(read_buffer, is_websocket ? "HTTP/1.1 101" : "HTTP/1.1 200", 12))
        errx(1, "refused: %.400s", read_buffer);
    recv(fd, read_buffer, (size_t)(rest + 4 - read_buffer), 0);
    if (!greeting_count) return;
    char *greeting = greetings[who % greeting_count];
    send_frame(&viewers[who], TEXT, greeting, strlen(greeting));
}

/* A viewer is greeted OPENING_AT_ONCE viewers after its request, so that the server is never idle. */
static void open_all(void) {
    uint64_t start = now();
    char byte;
    for (int i = 0; i < viewer_count + OPENING_AT_ONCE; i++) {
        if (i < viewer_count) viewers[i] = (viewer){.fd = ask(requests[i % request_count]), .next = (uint32_t)first};
        if (i >= OPENING_AT_ONCE) greet(i - OPENING_AT_ONCE);
    }
    for (int i = 0; i < viewer_count; i++) {  /* it is attached when the greeting is answered */
        if (greeting_count && recv(viewers[i].fd, &byte, 1, MSG_PEEK) <= 0) errx(1, "no answer to the greeting");
        watch(viewers[i].fd, i);
    }
    printf("{\"connect_s\":%.4f}\n", (double)(now() - start) / 1e9);
}

int main(int argc, char **argv) {
    char line[200];
    if (argc < 8) errx(1, "too few arguments");
    setvbuf(stdout, NULL, _IOLBF, 0);  /* each answer is a line, and goes out with its end */
    viewer_count = atoi(argv[1]);
    first = strtoull(argv[2], NULL, 10);
    late_request = argv[4];
    late_events = strtoull(argv[5], NULL, 10);
    request_count = atoi(argv[6]);
    requests = argv + 7;
    greetings = requests + request_count;
    greeting_count = argc - 7 - request_count;
    is_websocket = strstr(requests[0], "Upgrade: websocket") != NULL;
    viewers = calloc((uint64_t)viewer_count + 1, sizeof *viewers);
    late = &viewers[viewer_count];
    late->fd = -1;
    epoll = epoll_create1(0);
    open_all();
    control = ask(argv[3]);
    watch(control, CONTROL);
    watch(STDIN_FILENO, COMMANDS);
    for (;;) {  /* between two runs the sockets are read on: heartbeats come, and pings need an answer */
        if (!pump(-1)) continue;
        if (!fgets(line, sizeof line, stdin)) return 0;
        run(line);
    }
}
