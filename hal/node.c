#include "hal/node.h"

#include <string.h>

bool node_xattr_next(const struct node *n, uint32_t *at, struct node_xattr *out)
{
    uint32_t left = n->xattr_len - *at;
    uint16_t name_len;
    const uint8_t *p;

    if (left < NODE_XATTR_HEAD)
        return false;
    p = n->xattrs + *at;
    memcpy(&name_len, p, sizeof name_len);
    memcpy(&out->value_len, p + sizeof name_len, sizeof out->value_len);
    left -= NODE_XATTR_HEAD;
    if (name_len == 0 || name_len > NODE_NAME_MAX || name_len > left || out->value_len > left - name_len)
        return false;
    memcpy(out->name, p + NODE_XATTR_HEAD, name_len);
    out->name[name_len] = '\0';
    out->value = p + NODE_XATTR_HEAD + name_len;
    *at += NODE_XATTR_HEAD + name_len + out->value_len;
    return strlen(out->name) == name_len;
}
