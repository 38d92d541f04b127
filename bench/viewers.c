/* viewers: watches one server with N connections and counts every event on each of them.
 *
 * One thread, one epoll set, raw non-blocking sockets, SSE over HTTP/1.1 or WebSocket. Every event carries a mark of
 * fixed width, ^TTTTTTTTTTTTTTTTTTT.SSSSSSS: when it was published, in ns of CLOCK_MONOTONIC, and its number. So no
 * JSON is parsed: memchr finds '^', the number proves order and completeness, the time gives the latency.
 *
 * Backpressure goes over a control connection: "upto N.00" lets the server publish all events below N. At most
 * `window` events are on their way to the slowest viewer. In a paced run one more is let go at each tick instead; of
 * many runs at once in `parts` of a tick, "upto N.05" to those runs also event N whose number modulo 20 is below 5.
 *
 * During a paced run a late viewer may come again and again: --late names its request, for a run of `--late-events`
 * events that has ended. It reads to the end of the response; the answer has its bytes a second.
 *
 * Viewers are opened first; then each line on stdin, "run events=1000 window=64 ...", is one measurement, answered by
 * one JSON object on stdout. The end of stdin ends the program.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MARK = 28, TIME_AT = 1, NUMBER_AT = 21, READ_BYTES = 1 << 18, OPENING_AT_ONCE = 64, SOURCES = 8 };
enum { CONTROL = 1 << 30, COMMANDS, LATE, PARTS = 20, MOST_REPLAYS = 4096 };
enum state { NEW, CONNECTING, HEAD, GREETED, OPEN, CLOSED };

typedef struct {
    int fd;
    uint8_t state;
    uint8_t cut;            /* bytes of a mark that the end of a read has cut, kept in `tail` */
    uint8_t header_bytes;   /* WebSocket: of the frame header so far */
    uint8_t is_control;     /* WebSocket: the frame is a ping, pong or close */
    uint32_t next;          /* the number expected next */
    uint64_t left;          /* WebSocket: bytes of the frame still to come */
    char tail[MARK];
    unsigned char header[14];
    char *head;             /* the response's head so far */
    size_t head_bytes;
} viewer;

static viewer *viewers;
static int viewer_count = 1, is_websocket, epoll, control = -1, opening;
static struct sockaddr_in server_address, control_address;
static char **requests, **greetings, *control_head, *read_buffer;  /* viewer i uses number i modulo their count */
static int request_count, greeting_count;

static uint64_t first, events;                         /* of this run */
static uint64_t completed, allowed;                    /* all viewers have it; the server may publish it */
static uint64_t delivered, gaps, repeats, closed, open_viewers, bytes_in;
static uint32_t *seen;                                 /* viewers that have event first + i */
static uint32_t *latencies;                            /* in 0.1 us */
static uint64_t latency_count, latency_room, read_at;
static int times_wanted, must_spin, is_released;
static uint64_t notices;                               /* of what a viewer misses */
static uint64_t idle_ns;

static viewer late;
static char *late_request;
static uint64_t late_events, late_due, late_began, late_bytes, late_pause;  /* late_due 0: it is reading, or unwanted */
static double replays[MOST_REPLAYS];                   /* MB a second */
static size_t replay_count;

static void fail(const char *format, ...) {
    va_list rest;
    va_start(rest, format);
    fputs("viewers: ", stderr);
    vfprintf(stderr, format, rest);
    fputc('\n', stderr);
    exit(1);
}

static void *grown(void *memory, size_t bytes) {
    void *more = realloc(memory, bytes);
    if (!more) fail("out of memory");
    return more;
}

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t digits(const char *text, int count) {
    uint64_t value = 0;
    for (int i = 0; i < count; i++) value = value * 10 + (uint64_t)(text[i] - '0');
    return value;
}

/* ---- events ------------------------------------------------------------------------------------------------- */

static void count_event(viewer *v, const char *mark) {
    uint64_t number = digits(mark + NUMBER_AT, 7);
    if (number < v->next) {
        repeats++;
        return;
    }
    gaps += number - v->next;
    v->next = (uint32_t)number + 1;
    if (v == &late) return;
    delivered++;
    if (number >= first && number - first < events) seen[number - first]++;
    if (times_wanted && latency_count < latency_room)
        latencies[latency_count++] = (uint32_t)((read_at - digits(mark + TIME_AT, 19)) / 100);
}

static void scan(viewer *v, const char *p, size_t n) {
    if (v->cut) {
        size_t missing = MARK - v->cut, k = missing < n ? missing : n;
        memcpy(v->tail + v->cut, p, k);
        v->cut += k;
        if (v->cut < MARK) return;
        count_event(v, v->tail);
        v->cut = 0;
        p += k;
        n -= k;
    }
    const char *found;
    while (n && (found = memchr(p, '^', n))) {
        size_t rest = n - (size_t)(found - p);
        if (rest < MARK) {
            memcpy(v->tail, found, rest);
            v->cut = (uint8_t)rest;
            return;
        }
        count_event(v, found);
        p = found + MARK;
        n = rest - MARK;
    }
}

/* ---- connections -------------------------------------------------------------------------------------------- */

static void watch(int fd, uint32_t what, int who, int how) {
    struct epoll_event event = {.events = what, .data.u64 = (uint64_t)who};
    if (epoll_ctl(epoll, how, fd, &event)) fail("epoll_ctl: %s", strerror(errno));
}

static void drop(viewer *v) {
    if (v->state == CLOSED) return;
    if (v->state != OPEN) fail("closed by the server while opening: %.400s", v->head ? v->head : "");
    open_viewers--;
    closed++;
    v->state = CLOSED;
    close(v->fd);
}

/* A masked frame, as clients must send them; the mask is 0, so that the payload stays readable. */
static void send_frame(viewer *v, unsigned char kind, const void *payload, size_t n) {
    unsigned char frame[140] = {kind, (unsigned char)(0x80 | n)};
    if (n > 125) fail("a frame of %zu bytes is too long", n);
    memcpy(frame + 6, payload, n);
    if (send(v->fd, frame, 6 + n, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) return;  /* a closed one is noticed by its read */
}

static void is_open(viewer *v) {
    v->state = OPEN;
    v->next = (uint32_t)first;
    opening--;
    open_viewers++;
}

/* Takes bytes of a frame's header; returns how many. Complete when left, or a payload of 0, has been set. */
static size_t take_header(viewer *v, const unsigned char *p, size_t n) {
    size_t taken = 0;
    while (taken < n) {
        v->header[v->header_bytes++] = p[taken++];
        if (v->header_bytes < 2) continue;
        int size = v->header[1] & 127, needed = size < 126 ? 2 : size == 126 ? 4 : 10;
        if (v->header_bytes < needed) continue;
        uint64_t length = needed == 2 ? (uint64_t)size : 0;
        for (int i = 2; i < needed; i++) length = length << 8 | v->header[i];
        v->left = length;
        v->header_bytes = 0;
        v->is_control = v->header[0] & 8;
        break;
    }
    return taken;
}

static void take_frames(viewer *v, const unsigned char *p, size_t n) {
    while (n && v->state != CLOSED) {
        if (v->left) {
            size_t k = v->left < n ? v->left : n;
            if (!v->is_control) scan(v, (const char *)p, k);
            v->left -= k;
            p += k;
            n -= k;
            continue;
        }
        size_t k = take_header(v, p, n);
        p += k;
        n -= k;
        if (v->header_bytes) return;
        int kind = v->header[0] & 15;
        if (kind == 8) drop(v);
        if (kind == 9 && n >= v->left && v->left < 126) send_frame(v, 0x8a, p, v->left);
        if (kind < 8 && v->state == GREETED) is_open(v);  /* the answer to the greeting: it is attached now */
    }
}

static void take(viewer *v, char *p, size_t n) {
    if (is_websocket) take_frames(v, (unsigned char *)p, n);
    else scan(v, p, n);
}

static int dial(struct sockaddr_in to, int source) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    if (fd < 0) fail("socket: %s", strerror(errno));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (source >= 0) {  /* several addresses of loopback: one has too few ports for tens of thousands of viewers */
        struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000002u + (uint32_t)source)};
        setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
        if (bind(fd, (void *)&from, sizeof from)) fail("bind: %s", strerror(errno));
    }
    if (connect(fd, (void *)&to, sizeof to) && errno != EINPROGRESS) fail("connect: %s", strerror(errno));
    return fd;
}

static void take_head(viewer *v, int who, size_t n) {
    v->head = grown(v->head, v->head_bytes + n + 1);
    memcpy(v->head + v->head_bytes, read_buffer, n);
    v->head_bytes += n;
    v->head[v->head_bytes] = 0;
    char *end = strstr(v->head, "\r\n\r\n");
    if (!end) return;
    if (memcmp(v->head, is_websocket ? "HTTP/1.1 101" : "HTTP/1.1 200", 12)) fail("refused: %.400s", v->head);
    v->state = GREETED;
    if (greeting_count) {
        char *greeting = greetings[who % greeting_count];
        send_frame(v, 0x81, greeting, strlen(greeting));
    } else is_open(v);
    size_t rest = v->head_bytes - (size_t)(end + 4 - v->head);
    if (rest) take(v, end + 4, rest);
    free(v->head);
    v->head = NULL;
}

static void on_viewer(int who) {
    viewer *v = &viewers[who];
    if (v->state == CLOSED) return;
    if (v->state == CONNECTING) {
        char *request = requests[who % request_count];
        if (send(v->fd, request, strlen(request), MSG_NOSIGNAL) < 0) fail("connect: %s", strerror(errno));
        v->state = HEAD;
        watch(v->fd, EPOLLIN, who, EPOLL_CTL_MOD);
        return;
    }
    ssize_t n = recv(v->fd, read_buffer, READ_BYTES, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) {
        drop(v);
        return;
    }
    bytes_in += (uint64_t)n;
    if (times_wanted) read_at = now();
    if (is_released && memmem(read_buffer, (size_t)n, "\"gap\"", 5)) notices++;
    if (v->state == HEAD) take_head(v, who, (size_t)n);
    else take(v, read_buffer, (size_t)n);
}

/* ---- the late viewer ---------------------------------------------------------------------------------------- */

static void open_late(void) {
    late = (viewer){.fd = dial(server_address, 0), .state = CONNECTING};
    late_began = now();
    late_due = late_bytes = 0;
    watch(late.fd, EPOLLOUT, LATE, EPOLL_CTL_ADD);
}

static void close_late(void) {
    if (late.state != OPEN && late.state != CONNECTING) return;
    close(late.fd);
    late.state = CLOSED;
}

static void on_late(void) {
    if (late.state == CLOSED) return;
    if (late.state == CONNECTING) {
        if (send(late.fd, late_request, strlen(late_request), MSG_NOSIGNAL) < 0) fail("late: %s", strerror(errno));
        late.state = OPEN;
        watch(late.fd, EPOLLIN, LATE, EPOLL_CTL_MOD);
        return;
    }
    ssize_t n = recv(late.fd, read_buffer, READ_BYTES, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n > 0) {
        late_bytes += (uint64_t)n;
        scan(&late, read_buffer, (size_t)n);
        return;
    }
    uint64_t t = now();
    if (late.next != late_events) fail("the replay ended after %u of %llu events", late.next, (unsigned long long)late_events);
    if (replay_count < MOST_REPLAYS) replays[replay_count++] = (double)late_bytes * 1e3 / (double)(t - late_began);
    close_late();
    late_due = t + late_pause;
}

/* ---- control ------------------------------------------------------------------------------------------------ */

static void open_control(void) {
    control = dial(control_address, -1);
    struct timespec moment = {0, 1000000};
    while (send(control, control_head, strlen(control_head), MSG_NOSIGNAL) < 0) {
        if (errno != EAGAIN && errno != ENOTCONN) fail("control: %s", strerror(errno));
        nanosleep(&moment, NULL);
    }
    watch(control, EPOLLIN, CONTROL, EPOLL_CTL_ADD);
}

static void on_control(void) {
    ssize_t n = recv(control, read_buffer, READ_BYTES, 0);
    if (n == 0) fail("the server closed the control connection");
    if (n > 0 && !memcmp(read_buffer, "HTTP/1.1 4", 10)) fail("control refused: %.*s", (int)n, read_buffer);
}

/* Always 16 bytes, so that it is one chunk of a chunked request too, which is what HTTP servers take it as. */
static void allow(uint64_t number, int part) {
    char line[40];
    int n = snprintf(line, sizeof line, "10\r\nupto %07llu.%02d\n\r\n", (unsigned long long)number, part);
    if (send(control, line, (size_t)n, MSG_NOSIGNAL) != n) fail("control: %s", strerror(errno));
    allowed = number;
}

/* ---- one run ------------------------------------------------------------------------------------------------ */

static double option(const char *line, const char *name, double otherwise) {
    const char *found = strstr(line, name);
    return found ? atof(found + strlen(name)) : otherwise;
}

static void pump(int64_t timeout_ns) {
    static struct epoll_event ready[1024];
    struct timespec wait = {timeout_ns / 1000000000, timeout_ns % 1000000000};
    if (must_spin) wait = (struct timespec){0, 0};
    uint64_t began = must_spin ? now() : 0;
    int count = epoll_pwait2(epoll, ready, 1024, &wait, NULL);
    if (must_spin && count == 0) idle_ns += now() - began;
    for (int i = 0; i < count; i++) {
        int who = (int)ready[i].data.u64;
        if (who == CONTROL) on_control();
        else if (who == LATE) on_late();
        else if (who != COMMANDS) on_viewer(who);
    }
}

static int compare(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static int compare_doubles(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void report(uint64_t expected, double wall, double busy, uint64_t late_ns) {
    printf("{\"delivered\":%llu,\"lost\":%lld,\"gaps\":%llu,\"repeats\":%llu,\"closed\":%llu,\"seconds\":%.6f,"
           "\"busy\":%.3f,\"late_ms\":%.3f",
           (unsigned long long)delivered, (long long)(expected - delivered), (unsigned long long)gaps,
           (unsigned long long)repeats, (unsigned long long)closed, wall, busy, (double)late_ns / 1e6);
    if (latency_count) {
        qsort(latencies, latency_count, sizeof *latencies, compare);
        double p50 = latencies[(latency_count - 1) / 2], p99 = latencies[(uint64_t)((double)(latency_count - 1) * .99)];
        printf(",\"p50_ms\":%.4f,\"p99_ms\":%.4f", p50 / 1e4, p99 / 1e4);
    }
    if (replay_count) {
        qsort(replays, replay_count, sizeof *replays, compare_doubles);
        printf(",\"replays\":%zu,\"replay_mb_s\":%.2f", replay_count, replays[replay_count / 2]);
    }
    puts("}");
    fflush(stdout);
}

static double own_cpu(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* The viewers that did not read during the run read now. Did the server keep everything for them, or close them? */
static void release(int stalled) {
    uint64_t before = delivered, was_closed = closed, last = now(), seen_bytes = bytes_in;
    for (int i = 0; i < stalled; i++) watch(viewers[i].fd, EPOLLIN, i, EPOLL_CTL_ADD);
    is_released = 1;
    notices = 0;
    while (now() - last < 2000000000u) {
        pump(200000000);
        if (bytes_in != seen_bytes) last = now();
        seen_bytes = bytes_in;
    }
    is_released = 0;
    printf("{\"caught_up\":%llu,\"of\":%llu,\"closed\":%llu,\"notices\":%llu}\n",
           (unsigned long long)(delivered - before), (unsigned long long)stalled * events,
           (unsigned long long)(closed - was_closed), (unsigned long long)notices);
    fflush(stdout);
}

static void run(const char *line) {
    events = (uint64_t)option(line, "events=", 1000);
    uint64_t window = (uint64_t)option(line, "window=", 64);
    double rate = option(line, "rate=", 0), silence = option(line, "silence=", 5);
    int64_t nap = (int64_t)option(line, "nap_us=", 0) * 1000;
    int stalled = (int)option(line, "stalled=", 0), parts = (int)option(line, "parts=", 1);
    late_pause = (uint64_t)(option(line, "late_pause_ms=", 0) * 1e6);
    must_spin = (int)option(line, "spin=", 0);
    times_wanted = rate > 0;

    seen = grown(seen, events * sizeof *seen);
    memset(seen, 0, events * sizeof *seen);
    latency_room = times_wanted ? events * (uint64_t)viewer_count : 0;
    if (latency_room) latencies = grown(latencies, latency_room * sizeof *latencies);
    latency_count = completed = delivered = gaps = repeats = closed = bytes_in = idle_ns = 0;
    for (int i = 0; i < stalled; i++) watch(viewers[i].fd, 0, i, EPOLL_CTL_DEL);
    uint64_t reading = open_viewers - (uint64_t)stalled;

    double cpu = own_cpu();
    uint64_t began = now(), last = began, ended = began, last_delivered = 0, delayed = 0;
    allowed = first;
    replay_count = 0;
    late_due = late_pause ? began + late_pause : 0;
    uint64_t ticks = 0, all_ticks = events * (uint64_t)parts;
    while (completed < events) {
        int64_t wait = 200000000;
        if (late_due && now() >= late_due) open_late();
        if (rate > 0) {
            uint64_t due = began + (uint64_t)((double)(ticks + 1) * 1e9 / rate / parts), t = now();
            if (ticks < all_ticks && t >= due) {
                if (t - due > delayed) delayed = t - due;
                int part = (int)(ticks % (uint64_t)parts) + 1;
                allow(first + ticks / (uint64_t)parts + (part == parts), part == parts ? 0 : part);
                ticks++;
            } else if (ticks < all_ticks) wait = (int64_t)(due - t);
        } else {
            uint64_t most = completed + window < events ? completed + window : events;
            if (first + most > allowed) allow(first + most, 0);
            if (nap) nanosleep(&(struct timespec){0, nap}, NULL);
        }
        pump(wait);
        while (completed < events && seen[completed] >= reading) completed++;
        if (delivered != last_delivered) {
            last_delivered = delivered;
            last = ended = now();
        }
        if (now() - last > (uint64_t)(silence * 1e9) || gaps || repeats || closed) break;  /* and is no result */
    }
    if (late_pause) close_late();  /* one that is still reading gives no figure */
    late_due = 0;
    double wall = (double)(ended - began) / 1e9;
    double passed = (double)(now() - began) / 1e9;
    double busy = must_spin ? 1 - (double)idle_ns / 1e9 / passed : (own_cpu() - cpu) / passed;
    report(reading * events, wall, busy, delayed);
    must_spin = 0;
    if (stalled) release(stalled);
    first += events;
}

/* ---- start -------------------------------------------------------------------------------------------------- */

static void open_all(void) {
    uint64_t began = now();
    int next = 0;
    while (open_viewers < (uint64_t)viewer_count) {
        for (; next < viewer_count && opening < OPENING_AT_ONCE; next++, opening++) {
            viewers[next].fd = dial(server_address, next % SOURCES);
            viewers[next].state = CONNECTING;
            watch(viewers[next].fd, EPOLLOUT, next, EPOLL_CTL_ADD);
        }
        pump(1000000000);
        if (now() - began > 120000000000u) fail("only %d of %d viewers in 120 s", (int)open_viewers, viewer_count);
    }
    printf("{\"connect_s\":%.4f}\n", (double)(now() - began) / 1e9);
    fflush(stdout);
}

/* Between two runs the sockets are read on: heartbeats come, and pings want an answer. */
static void await_commands(void) {
    static char line[1024];
    size_t have = 0;
    watch(STDIN_FILENO, EPOLLIN, COMMANDS, EPOLL_CTL_ADD);
    for (;;) {
        struct epoll_event ready[64];
        int count = epoll_wait(epoll, ready, 64, -1), commands = 0;
        for (int i = 0; i < count; i++) {
            int who = (int)ready[i].data.u64;
            if (who == COMMANDS) commands = 1;
            else if (who == CONTROL) on_control();
            else on_viewer(who);
        }
        if (!commands) continue;
        ssize_t n = read(STDIN_FILENO, line + have, sizeof line - 1 - have);
        if (n <= 0) return;
        have += (size_t)n;
        line[have] = 0;
        for (char *end; (end = strchr(line, '\n'));) {
            *end = 0;
            run(line);
            have -= (size_t)(end + 1 - line);
            memmove(line, end + 1, have + 1);
        }
    }
}

int main(int argc, char **argv) {
    int port = 0, control_port = 0;
    requests = grown(NULL, (size_t)argc * sizeof *requests);
    greetings = grown(NULL, (size_t)argc * sizeof *greetings);
    for (int i = 1; i + 1 < argc; i += 2) {
        char *name = argv[i], *value = argv[i + 1];
        if (!strcmp(name, "--port")) port = atoi(value);
        else if (!strcmp(name, "--control-port")) control_port = atoi(value);
        else if (!strcmp(name, "--viewers")) viewer_count = atoi(value);
        else if (!strcmp(name, "--transport")) is_websocket = !strcmp(value, "websocket");
        else if (!strcmp(name, "--request")) requests[request_count++] = value;
        else if (!strcmp(name, "--greeting")) greetings[greeting_count++] = value;
        else if (!strcmp(name, "--control")) control_head = value;
        else if (!strcmp(name, "--late")) late_request = value;
        else if (!strcmp(name, "--late-events")) late_events = strtoull(value, NULL, 10);
        else if (!strcmp(name, "--first")) first = strtoull(value, NULL, 10);
        else fail("unknown option %s", name);
    }
    if (!port || !request_count || !control_head) fail("--port, --request and --control are needed");
    signal(SIGPIPE, SIG_IGN);
    server_address = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    server_address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    control_address = server_address;
    if (control_port) control_address.sin_port = htons((uint16_t)control_port);
    read_buffer = grown(NULL, READ_BYTES + 1);
    viewers = calloc((size_t)viewer_count, sizeof *viewers);
    epoll = epoll_create1(0);
    open_all();
    open_control();
    await_commands();
    return 0;
}
