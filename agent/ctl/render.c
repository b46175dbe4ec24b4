#include "ctl/render.h"

#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#define LABEL_LEN 10
#define FAILURE_LINES 5
#define DETAIL_LINES 3
#define STATUS_FAILURE_LINES 3
#define EVENT_LINES 3

/* --- reading --- */

static const cJSON *member(const cJSON *o, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(o, key);
}

static const char *text(const cJSON *o, const char *key)
{
    const cJSON *item = member(o, key);

    return cJSON_IsString(item) ? item->valuestring : "";
}

/* -1 for what is not there or makes no sense. */
static int64_t number(const cJSON *o, const char *key)
{
    const cJSON *item = member(o, key);

    return cJSON_IsNumber(item) && item->valuedouble >= 0 && item->valuedouble < 1e15
               ? (int64_t)item->valuedouble
               : -1;
}

static bool is(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

static const cJSON *slot_by_name(const cJSON *status, const char *name)
{
    const cJSON *slot;

    cJSON_ArrayForEach(slot, member(status, "slots")) if (is(text(slot, "name"), name)) return slot;
    return NULL;
}

static const cJSON *slot_by_digest(const cJSON *status, const char *digest)
{
    const cJSON *slot;

    if (digest[0] != '\0')
        cJSON_ArrayForEach(slot, member(status, "slots")) if (is(text(slot, "digest"), digest)) return slot;
    return NULL;
}

static const cJSON *failure_of(const cJSON *status)
{
    const cJSON *failure = member(status, "last_failure");

    return cJSON_IsObject(failure) ? failure : NULL;
}

static bool app_is_down(const cJSON *status)
{
    const char *state = text(member(status, "app"), "state");

    return is(state, "down") || is(state, "backoff") || is(state, "failed");
}

static bool by_hand(const cJSON *status)
{
    return is(text(failure_of(status), "event"), "rollback");
}

/* The slot of a version that was started and failed, while another one runs. The slot tells, because a later failure
 * (of the app, say) takes the place of the one that explains it. */
static const cJSON *slot_fallen_from(const cJSON *status)
{
    const cJSON *slot;

    cJSON_ArrayForEach(
        slot, member(status, "slots")) if (is(text(slot, "state"), "bad") &&
                                           !is(text(slot, "name"), text(status, "booted"))) return slot;
    return NULL;
}

static bool fell_back(const cJSON *status)
{
    return slot_fallen_from(status) && !by_hand(status);
}

/* An install, or a confirmation, that failed and has not been made good since. */
static bool update_failed(const cJSON *status)
{
    const cJSON *failure = failure_of(status);
    const char *event = text(failure, "event");
    const cJSON *booted = slot_by_name(status, text(status, "booted"));
    const char *running = text(booted, "digest");

    if (is(event, "confirm"))
        return !is(text(booted, "state"), "active");
    if (!is(event, "install"))
        return false;
    return running[0] == '\0' ||
           (!is(running, text(failure, "digest")) && !is(running, text(member(status, "follow"), "digest")));
}

/* Of the running slot; the other one is mended. */
static int64_t files_damaged(const cJSON *status)
{
    return number(slot_by_name(status, text(status, "booted")), "damaged");
}

static bool app_beside_fails(const cJSON *status)
{
    const cJSON *app;

    cJSON_ArrayForEach(app, member(status, "apps")) if (cJSON_IsTrue(member(app, "failing"))) return true;
    return false;
}

bool render_is_failing(const cJSON *status)
{
    return files_damaged(status) > 0 || app_is_down(status) || fell_back(status) || update_failed(status) ||
           app_beside_fails(status);
}

/* --- words --- */

struct words {
    char s[160];
};

static struct words words(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static struct words words(const char *fmt, ...)
{
    struct words w;
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(w.s, sizeof w.s, fmt, ap);
    va_end(ap);
    return w;
}

static struct words duration(int64_t s)
{
    if (s < 0)
        return words("?");
    if (s < 600)
        return words("%d s", (int)s);
    if (s < 7200)
        return words("%d min", (int)(s / 60));
    if (s < 172800)
        return words("%d h %d min", (int)(s / 3600), (int)(s / 60 % 60));
    return words("%lld d %d h", (long long)(s / 86400), (int)(s / 3600 % 24));
}

static struct words ago(const cJSON *status, int64_t when)
{
    int64_t now = number(status, "now_s");

    if (when < 0 || now < when)
        return words("at an unknown time");
    return words("%s ago", duration(now - when).s);
}

static struct words date(int64_t when)
{
    char out[32];
    time_t t = (time_t)when;
    struct tm tm;

    if (when < 0 || !gmtime_r(&t, &tm) || strftime(out, sizeof out, "%Y-%m-%d %H:%M:%S UTC", &tm) == 0)
        return words("at an unknown time");
    return words("%s", out);
}

/* The first 12 digits are enough for a person to tell versions apart. */
static struct words digest_short(const char *digest)
{
    return words("%.19s", digest[0] != '\0' ? digest : "?");
}

static struct words version(const cJSON *status, const char *digest)
{
    const char *name = text(slot_by_digest(status, digest), "version");

    if (name[0] != '\0')
        return words("%.24s (%s)", name, digest_short(digest).s);
    return digest[0] != '\0' ? words("%s", digest_short(digest).s) : words("the new version");
}

static struct words booted_version(const cJSON *status)
{
    const cJSON *booted = slot_by_name(status, text(status, "booted"));
    const char *name = text(booted, "version");

    if (!cJSON_IsTrue(member(booted, "known")))
        return words("the system as flashed");
    return name[0] != '\0' ? words("%.24s", name) : digest_short(text(booted, "digest"));
}

static struct words app_end(const cJSON *app)
{
    const cJSON *end = member(app, "last_exit");
    const char *cause = text(end, "cause");
    bool by_signal = member(end, "signal") != NULL;
    int64_t ms = number(end, "ran_ms");

    if (!cJSON_IsObject(end))
        return words("%s", "");
    return words("%s %lld after %lld.%lld s%s%.24s", by_signal ? "signal" : "exit code",
                 (long long)number(end, by_signal ? "signal" : "code"), (long long)(ms / 1000),
                 (long long)(ms / 100 % 10), is(cause, "by itself") ? "" : ", ",
                 is(cause, "by itself") ? "" : cause);
}

static struct words tenths(int64_t value, int64_t unit)
{
    return words("%lld.%lld", (long long)(value / unit), (long long)(value % unit * 10 / unit));
}

/* --- lines --- */

/* One line, cut where it would be too long. */
static void line(FILE *out, const char *label, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void line(FILE *out, const char *label, const char *fmt, ...)
{
    char all[RENDER_COLUMNS + 2];
    int at = snprintf(all, sizeof all, "%-*s", label[0] != '\0' ? LABEL_LEN : 0, label);
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(all + at, sizeof all - (size_t)at, fmt, ap);
    va_end(ap);
    if (strlen(all) > RENDER_COLUMNS)
        memcpy(all + RENDER_COLUMNS - 2, "..", 3);
    for (char *c = all; *c; c++)
        if (*c < 0x20 || *c > 0x7e)
            *c = '?';
    fprintf(out, "%s\n", all);
}

/* Text over several lines, cut at blanks where there are any; the last line says that there is more. */
static void paragraph(FILE *out, const char *label, int indent, const char *s, int lines_max)
{
    size_t width = RENDER_COLUMNS - LABEL_LEN - (size_t)indent - 2;

    for (int i = 0; i < lines_max; i++) {
        size_t len = strlen(s);
        size_t take = len > width ? width : len;

        for (size_t back = take; len > width && back > width / 2; back--)
            if (s[back] == ' ') {
                take = back;
                break;
            }
        line(out, i == 0 && label[0] != '\0' ? label : " ", "%*s%.*s%s", indent, "", (int)take, s,
             take < len && i + 1 == lines_max ? ".." : "");
        s += take;
        while (*s == ' ')
            s++;
        if (*s == '\0')
            return;
    }
}

/* The end of an image's name, its tag, says more than its middle. */
static void image_line(const cJSON *follow, FILE *out)
{
    const char *image = text(follow, "image");
    bool plain = cJSON_IsTrue(member(follow, "plain_http"));
    bool off = is(text(follow, "signatures"), "off");
    const char *const notes[2][2] = {{"", "  SIGNATURES OFF"},
                                     {"  INSECURE: plain HTTP", "  INSECURE: plain HTTP, SIGNATURES OFF"}};
    const char *note = notes[plain][off];
    size_t room = RENDER_COLUMNS - LABEL_LEN - strlen(note);
    size_t len = strlen(image);

    if (len == 0)
        line(out, "follows", "nothing: agent.conf has no image under [registry]");
    else if (len > room)
        line(out, "follows", "%.*s..%s%s", (int)(room / 2 - 2), image, image + len - (room - room / 2), note);
    else
        line(out, "follows", "%s%s", image, note);
}

static void headline(const cJSON *status, FILE *out)
{
    const char *state = text(member(status, "update"), "state");
    const char *booted = text(status, "booted");
    const cJSON *failure = failure_of(status);
    const cJSON *app = member(status, "app");
    bool bad = render_is_failing(status);

    if (fell_back(status)) {
        line(out, "", "FELL BACK: %s failed its trial.",
             version(status, text(slot_fallen_from(status), "digest")).s);
        line(out, "", "  The board runs %s from slot %.1s again; `agentctl why` has the cause.",
             booted_version(status).s, booted);
    } else if (update_failed(status)) {
        line(out, "", "LAST UPDATE FAILED (%.15s, %.15s); slot %.1s runs on. See `agentctl why`.",
             text(failure, "event"), text(failure, "cause"), booted);
    } else if (files_damaged(status) > 0) {
        line(out, "", "FLASH DAMAGE: %lld in the running slot %.1s. See `agentctl why`.",
             (long long)files_damaged(status), booted);
    } else if (app_beside_fails(status)) {
        line(out, "", "AN APP FAILS; see `agentctl apps`, and `agentctl why NAME` for the cause.");
    }
    if (app_is_down(status))
        line(out, "", "APP NOT RUNNING: %s%s%s.", text(app, "state"),
             app_end(app).s[0] != '\0' ? ", last end: " : "", app_end(app).s);
    if (slot_fallen_from(status) && by_hand(status))
        line(out, "", "ROLLED BACK BY HAND: %s runs from slot %.1s.", booted_version(status).s, booted);
    else if (is(state, "trial"))
        line(out, "", "ON TRIAL: %s in slot %.1s is not confirmed yet.", booted_version(status).s, booted);
    else if (!bad)
        line(out, "", "OK: %s runs from slot %.1s.", booted_version(status).s, booted);
}

static void board_lines(const cJSON *status, FILE *out)
{
    const char *target = text(status, "target");
    const cJSON *follow = member(status, "follow");
    const char *digest = text(follow, "digest");
    const cJSON *slot = slot_by_digest(status, digest);

    int64_t watchdog = number(status, "watchdog_s");

    line(out, "board", "%.24s  up %s, last reset: %.15s, watchdog: %s", text(status, "board"),
         duration(number(status, "uptime_s")).s, text(status, "reset_cause"),
         watchdog > 0 ? duration(watchdog).s : "none");
    if (target[0] != '\0')
        line(out, "target", "app %.31s, not the system", target);
    line(out, "device", "%.40s  agent %.23s", text(status, "device_id"), text(status, "agent_version"));
    image_line(follow, out);
    if (digest[0] != '\0')
        line(out, "latest", "%s, %s%.1s", digest_short(digest).s, slot ? "in slot " : "not on this board",
             text(slot, "name"));
}

static void update_lines(const cJSON *status, FILE *out)
{
    const cJSON *update = member(status, "update");
    int64_t next = number(update, "next_poll_in_s");
    int64_t last = number(update, "last_poll_s");
    const char *detail = text(update, "detail");

    line(out, "update", "%.15s%s; %s%s, %s%s", text(update, "state"),
         cJSON_IsTrue(member(update, "held")) ? ", HELD" : "", last < 0 ? "not polled yet" : "last poll ",
         last < 0 ? "" : ago(status, last).s, next < 0 ? "none planned" : "next in ",
         next < 0 ? "" : duration(next).s);
    if (is(text(update, "state"), "installing"))
        line(out, " ", "%lld %%  %s", (long long)number(update, "percent"), detail);
    else if (detail[0] != '\0')
        paragraph(out, "", 0, detail, DETAIL_LINES - (cJSON_GetArraySize(member(status, "apps")) > 0));
}

static void slot_lines(const cJSON *status, FILE *out)
{
    const cJSON *slot;

    cJSON_ArrayForEach(slot, member(status, "slots"))
    {
        const char *name = text(slot, "name");
        bool booted = is(name, text(status, "booted"));
        struct words label = words("slot %.1s %s", name, booted ? "*" : "");

        int64_t damaged = number(slot, "damaged");

        if (cJSON_IsTrue(member(slot, "known")))
            line(out, label.s, "%-8.15s %-20.20s %s  %lld starts left%s", text(slot, "state"),
                 text(slot, "version"), digest_short(text(slot, "digest")).s,
                 (long long)number(slot, "tries_left"),
                 damaged > 0 ? words(", %lld DAMAGED", (long long)damaged).s : "");
        else
            line(out, label.s, "%.15s%sas flashed", booted ? text(slot, "state") : "", booted ? "   " : "");
    }
}

/* How it ended last and what could not be made sure of. Of an app that is down, the headline has said it. */
static void app_notes(const cJSON *status, const cJSON *app, FILE *out)
{
    bool ended = cJSON_IsObject(member(app, "last_exit"));
    int64_t kills = number(member(app, "memory"), "oom_kills");
    const char *weaker = text(app, "weaker");
    struct words ooms = kills > 0 ? words("%lld OOM kills  ", (long long)kills) : words("%s", "");

    if (!app_is_down(status) && (ended || kills > 0 || weaker[0] != '\0'))
        line(out, " ", "%s%s%s%s%s%s", ended ? "ended last with " : "", ended ? app_end(app).s : "",
             ended ? "  " : "", ooms.s, weaker[0] != '\0' ? "WEAKER: " : "", weaker);
}

static void app_line(const cJSON *status, FILE *out)
{
    const cJSON *app = member(status, "app");
    const cJSON *memory = member(app, "memory");
    int64_t pid = number(app, "pid"), now = number(memory, "now_kib"), limit = number(memory, "limit_kib");
    struct words used = words("%s", "");

    if (now >= 0 && limit > 0)
        used = words(", %s of %s MiB", tenths(now, 1024).s, tenths(limit, 1024).s);
    if (pid > 0)
        line(out, "app", "%.11s for %s, pid %lld, %lld restarts%s", text(app, "state"),
             duration(number(app, "up_s")).s, (long long)pid, (long long)number(app, "restarts"), used.s);
    else
        line(out, "app", "%.11s, %lld restarts", text(app, "state"), (long long)number(app, "restarts"));
    app_notes(status, app, out);
}

/* --- apps --- */

void render_apps(const cJSON *apps, FILE *out)
{
    const cJSON *app;

    cJSON_ArrayForEach(app, apps) line(
        out, "", "%-16.31s %-9.11s %-20.20s update: %.15s%s", text(app, "name"), text(app, "app"),
        text(app, "version"), text(app, "update"), cJSON_IsTrue(member(app, "failing")) ? "  FAILING" : "");
}

/* In a status there is one line for all; what has no room there is in the list. */
static void beside_line(const cJSON *status, FILE *out)
{
    char all[RENDER_COLUMNS + 1] = "";
    const cJSON *app;
    size_t at = 0;

    cJSON_ArrayForEach(app, member(status, "apps")) if (at < sizeof all) at += (size_t)snprintf(
        all + at, sizeof all - at, "%s%.31s %.11s %.20s%s", at > 0 ? ", " : "", text(app, "name"),
        text(app, "app"), text(app, "version"), cJSON_IsTrue(member(app, "failing")) ? " FAILING" : "");
    if (at > 0)
        line(out, "apps", "%s", all);
}

static void failure_lines(const cJSON *status, FILE *out)
{
    const cJSON *failure = failure_of(status);

    if (!failure) {
        line(out, "failure", "none");
        return;
    }
    line(out, "failure", "%.15s, %s", text(failure, "event"), ago(status, number(failure, "when_s")).s);
    paragraph(out, " ", 0, text(failure, "text"), STATUS_FAILURE_LINES);
}

/* As much as has room behind the counts. */
static struct words wear_words(const cJSON *wear)
{
    int64_t a = number(wear, "used_a_percent"), b = number(wear, "used_b_percent");
    const char *spare = text(wear, "spare");

    if (is(text(wear, "kind"), "ubi"))
        return words("; %lld erasures", (long long)number(wear, "erased_max"));
    if (is(spare, "low") || is(spare, "gone"))
        return words("; eMMC IS WORN");
    if (a > 0 || b > 0)
        return words("; eMMC: %lld %% used", (long long)(a > b ? a : b));
    return words("%s", "");
}

static void cost_lines(const cJSON *status, FILE *out)
{
    const cJSON *flash = member(status, "flash");
    const cJSON *hash = member(status, "hash");
    const cJSON *role;
    char all[160] = "";
    size_t at = 0;

    cJSON_ArrayForEach(role, member(status, "roles")) if (at < sizeof all - 1) at += (size_t)snprintf(
        all + at, sizeof all - at, "%.7s %s  ", text(role, "name"), tenths(number(role, "peak_kib"), 1024).s);
    line(out, "RAM peak", "%sMiB resident", all);
    line(out, "flash", "for life: %s MB written, %s MB not; %lld records%s",
         tenths(number(flash, "slot_bytes_written"), 1000000).s,
         tenths(number(flash, "slot_bytes_kept"), 1000000).s, (long long)number(flash, "state_writes"),
         wear_words(member(flash, "wear")).s);
    line(out, "sha256", "%.15s, %s MiB/s   sandbox: %.40s", text(hash, "engine"),
         tenths(number(hash, "kib_s"), 1024).s, text(status, "sandbox"));
}

void render_status(const cJSON *status, FILE *out)
{
    headline(status, out);
    fputc('\n', out);
    board_lines(status, out);
    update_lines(status, out);
    slot_lines(status, out);
    app_line(status, out);
    beside_line(status, out);
    failure_lines(status, out);
    cost_lines(status, out);
}

/* --- why --- */

static const char *consequence(const cJSON *why)
{
    const char *event = text(failure_of(why), "event");

    if (is(event, "rollback"))
        return "The other slot was taken back, as asked for.";
    if (is(event, "trial"))
        return "The other slot was taken back. The failed version is not tried again";
    if (is(event, "install"))
        return "Nothing was switched over: the slot in use was not touched.";
    if (is(event, "app"))
        return "The version had been confirmed, so it was not taken back.";
    if (is(event, "confirm"))
        return "The version stays on trial; if that ends badly, the other slot is taken back.";
    if (is(event, "scrub"))
        return "The slot in use is not touched; the other one is mended with the next poll.";
    if (is(event, "mend"))
        return "The other slot is not started until that succeeds; it is tried again.";
    return "Nothing.";
}

/* "update: layer 3 of 5: sha256 mismatch" as a stair, one cause a step. */
static void chain_lines(const char *s, FILE *out)
{
    for (int indent = 0; *s; indent += indent < 16 ? 2 : 0) {
        const char *end = strstr(s, ": ");
        char link[512];
        size_t len = end ? (size_t)(end - s) : strlen(s);

        snprintf(link, sizeof link, "%.*s", (int)len, s);
        paragraph(out, indent == 0 ? "chain" : " ", indent, link, FAILURE_LINES);
        s += end ? len + 2 : len;
    }
}

void render_why(const cJSON *why, FILE *out)
{
    const cJSON *failure = failure_of(why);
    int64_t when = number(failure, "when_s");

    headline(why, out);
    fputc('\n', out);
    if (failure) {
        line(out, "what", "%.15s of %s", text(failure, "event"), version(why, text(failure, "digest")).s);
        line(out, "when", "%s, %s", date(when).s, ago(why, when).s);
        line(out, "kind", "%.15s", text(failure, "cause"));
        chain_lines(text(failure, "text"), out);
        line(out, "then", "%s", consequence(why));
        if (fell_back(why))
            line(out, " ", "by itself; `agentctl update` does, and a new one on the tag is tried.");
    } else {
        line(out, "failure", "none is on record");
    }
    update_lines(why, out);
    slot_lines(why, out);
    app_line(why, out);
}

/* --- plan --- */

static struct words size_words(int64_t bytes)
{
    if (bytes < 0)
        return words("?");
    if (bytes < 10000)
        return words("%lld bytes", (long long)bytes);
    if (bytes < 10000000)
        return words("%lld.%lld KB", (long long)(bytes / 1000), (long long)(bytes / 100 % 10));
    return words("%s MB", tenths(bytes, 1000000).s);
}

static void files_line(const cJSON *cost, const char *label, const char *files, const char *bytes,
                       const char *what, FILE *out)
{
    int64_t cnt = number(member(cost, "files"), files);

    if (cnt > 0)
        line(out, label, "%lld file%s, %s: %s", (long long)cnt, cnt == 1 ? "" : "s",
             size_words(number(member(cost, "content_bytes"), bytes)).s, what);
}

static void cost_plan_lines(const cJSON *cost, FILE *out)
{
    const cJSON *download = member(cost, "download");
    const cJSON *layers = member(cost, "layers");
    int64_t whole = number(layers, "streamed"), chunks = number(member(cost, "content_bytes"), "chunks");
    int64_t seconds = number(download, "seconds"), write = number(cost, "write_bytes");
    int64_t requests = number(download, "requests");

    line(out, "download", "%s%s in %lld request%s%s%s", whole > 0 ? "at most " : "",
         size_words(number(download, "bytes")).s, (long long)requests, requests == 1 ? "" : "s",
         seconds >= 0 ? "; at the last one's pace " : "", seconds >= 0 ? duration(seconds).s : "");
    if (write >= 0)
        line(out, "write", "at most %s", size_words(write).s);
    else
        line(out, "write", "what differs; of streamed layers that is not known before");
    line(out, "layers", "%lld: %lld streamed whole, %lld here already", (long long)number(layers, "all"),
         (long long)whole, (long long)number(layers, "local"));
    files_line(cost, "keep", "kept", "kept", "already in their place", out);
    files_line(cost, "copy", "copied", "copied", "from what the slots hold", out);
    files_line(cost, "fetch", "fetched", "fetched", "in neither slot", out);
    if (chunks > 0)
        line(out, "chunks", "%s of these files' older versions are reused", size_words(chunks).s);
}

void render_plan(const cJSON *plan, FILE *out)
{
    const cJSON *cost = member(plan, "cost");
    const char *slot = text(plan, "slot"), *waiting = text(plan, "waiting"), *name = text(plan, "version");

    if (is(text(plan, "state"), "failed")) {
        line(out, "", "NO PLAN: the update would fail, too.");
        fputc('\n', out);
        chain_lines(text(plan, "error"), out);
        return;
    }
    if (cJSON_IsTrue(member(plan, "current"))) {
        line(out, "", "NOTHING TO DO: the board runs what its tag names.");
        return;
    }
    line(out, "", "%s: %.24s%s%s into slot %.1s, then a %s.", waiting[0] != '\0' ? "WAITING" : "NEXT UPDATE",
         name, name[0] != '\0' ? ", " : "", digest_short(text(plan, "digest")).s, slot,
         is(text(plan, "activation"), "restart") ? "restart of the app" : "reboot");
    fputc('\n', out);
    line(out, "image", "%s", text(plan, "image"));
    if (waiting[0] != '\0')
        paragraph(out, "waiting", 0, waiting, FAILURE_LINES);
    if (cJSON_IsObject(cost))
        cost_plan_lines(cost, out);
}

/* --- history --- */

void render_event(const cJSON *event, FILE *out)
{
    const char *name = text(event, "version");

    line(out, "", "%s  %.1s  %-10.15s %.31s%s%s", date(number(event, "when_s")).s, text(event, "slot"),
         text(event, "what"), name, name[0] != '\0' ? " " : "", digest_short(text(event, "digest")).s);
    if (text(event, "text")[0] != '\0')
        paragraph(out, " ", 0, text(event, "text"), EVENT_LINES);
}
