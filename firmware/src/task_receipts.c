#include "task_receipts.h"

#include "mqtt_session.h"

#include "fl_text.h"

#include <stdbool.h>
#include <string.h>
#include <zephyr/sys/util.h>

#define KEPT_MAX 4 /* the task under way, the one that waits, and replays of both */

static struct receipt {
    uint16_t message_id; /* 0: the place is free */
    char task_id[FL_TASK_ID_MAX + 1];
} kept[KEPT_MAX];

void task_receipts_clear(void)
{
    memset(kept, 0, sizeof(kept));
}

void task_receipts_keep(const char *task_id, uint16_t message_id)
{
    for (size_t i = 0; i < ARRAY_SIZE(kept); i++) {
        if (kept[i].message_id == 0 &&
            fl_text_copy(kept[i].task_id, sizeof(kept[i].task_id), task_id)) {
            kept[i].message_id = message_id;
            return;
        }
    }
    (void)session_acknowledge(message_id); /* if it fails, the session ends */
}

static bool is_open(const struct fl_proplet *proplet, const char *task_id)
{
    return (proplet->phase != FL_PHASE_IDLE && strcmp(proplet->task.id, task_id) == 0) ||
           (proplet->has_next && strcmp(proplet->next.id, task_id) == 0);
}

void task_receipts_send(const struct fl_proplet *proplet)
{
    for (size_t i = 0; i < ARRAY_SIZE(kept); i++) {
        if (kept[i].message_id != 0 && !is_open(proplet, kept[i].task_id)) {
            (void)session_acknowledge(kept[i].message_id); /* if it fails, the session ends */
            kept[i].message_id = 0;
        }
    }
}
