/* The targets beside the system: [app NAME] of agent.conf, and how the rest of the agent sees them. */
#include "base/conf_target.h"

#include <stdio.h>
#include <string.h>

#include "base/conf_app.h"

#define APPS_DIR "apps"

static int target_check(const struct conf_target *t, const char *path, struct err *e)
{
    if (!t->registry.host[0])
        return err_set(e, ERR_CONFIG, "%s: [app %s] names no image to follow", path, t->name);
    if (!t->app.memory_kb)
        return err_set(e, ERR_CONFIG,
                       "%s: [app %s] needs memory = ..., as apps beside each other share what the board has",
                       path, t->name);
    return conf_app_check(&t->app, e) ? err_prefix(e, "%s: [app %s]", path, t->name) : 0;
}

/* What is promised to an app, and to the process that carries its ports. */
static uint32_t promised_kb(const struct conf_app *a)
{
    return a->memory_kb + (a->ports[0].host ? CONFIG_MEM_FORWARD_KB : 0);
}

int conf_targets_finish(struct conf *c, const char *path, struct err *e)
{
    for (struct conf_target *t = c->apps; t < c->apps + CONFIG_APPS_MAX && t->name[0]; t++) {
        struct conf_registry own = t->registry;
        char longest[CONF_PATH_MAX];

        if (target_check(t, path, e))
            return e->code;
        if (snprintf(longest, sizeof longest, "%s/" APPS_DIR "/%s/stage", c->agent.state_dir, t->name) >=
            (int)sizeof longest)
            return err_set(e, ERR_CONFIG, "%s: [agent] state_dir is too long for [app %s]", path, t->name);
        t->registry = c->registry;
        memcpy(t->registry.host, own.host, sizeof own.host);
        memcpy(t->registry.repository, own.repository, sizeof own.repository);
        memcpy(t->registry.tag, own.tag, sizeof own.tag);
        c->others_kb += promised_kb(&t->app);
    }
    return 0;
}

/* What does not fit was refused above. */
static void below(char out[CONF_PATH_MAX], const char *dir, const char *name)
{
    char parent[CONF_PATH_MAX];

    snprintf(parent, sizeof parent, "%s", dir);
    if (snprintf(out, CONF_PATH_MAX, "%s/%s", parent, name) >= CONF_PATH_MAX)
        out[0] = '\0';
}

/* A repository that [trust] names is the system's. */
static void view(struct conf *c, const struct conf_target *t)
{
    c->others_kb += promised_kb(&c->app) - promised_kb(&t->app);
    c->registry = t->registry;
    c->app = t->app;
    below(c->agent.state_dir, c->agent.state_dir, APPS_DIR);
    below(c->agent.state_dir, c->agent.state_dir, t->name);
    below(c->agent.stage_dir, c->agent.state_dir, "stage");
    c->slots = (struct conf_slots){.disk = false};
    below(c->slots.a, c->agent.state_dir, "a");
    below(c->slots.b, c->agent.state_dir, "b");
    if (strcmp(c->trust.repository, "any") != 0)
        c->trust.repository[0] = '\0';
    memcpy(c->target, t->name, sizeof c->target);
}

int conf_view(struct conf *c, const char *name, struct err *e)
{
    if (!name[0])
        return 0;
    for (const struct conf_target *t = c->apps; t < c->apps + CONFIG_APPS_MAX && t->name[0]; t++)
        if (!strcmp(t->name, name)) {
            view(c, t);
            return 0;
        }
    return err_set(e, ERR_ABSENT, "agent.conf has no section [app %.40s]", name);
}
