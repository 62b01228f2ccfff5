/* No bytes break a decoder, and a message that is read holds only what it may. */
#include "fl_message.h"

#include <stdlib.h>
#include <string.h>

static struct fl_message_decoder decoder;
static struct fl_task_start start;
static struct fl_task_stop stop;
static struct fl_update_ack ack;
static struct fl_round_complete complete;
static struct fl_image_chunks chunks;
static uint8_t image[64];
static struct fl_stream stream;

static void require(bool holds)
{
    if (!holds) {
        abort();
    }
}

static void check_id(const char *id)
{
    require(id[0] == '\0' || fl_id_valid(id, strlen(id)));
}

static void begin(unsigned int kind)
{
    static struct fl_stream_memory place = {image, sizeof(image)};
    const struct fl_stream_sink sink = {fl_stream_to_memory, &place};

    (void)fl_stream_begin(&stream, sink, FL_STREAM_TOTAL_UNKNOWN, sizeof(image), NULL);
    switch (kind) {
    case 0:
        fl_decode_task_start(&decoder, &start, &stream);
        break;
    case 1:
        fl_decode_task_stop(&decoder, &stop);
        break;
    case 2:
        fl_decode_update_ack(&decoder, &ack);
        break;
    case 3:
        fl_decode_round_complete(&decoder, &complete);
        break;
    default:
        chunks = (struct fl_image_chunks){.app_name = "app", .stream = &stream};
        fl_decode_image_chunk(&decoder, &chunks);
        break;
    }
}

static void check(unsigned int kind, enum fl_message_status status)
{
    if (kind == 0) {
        check_id(start.proplet_id); /* also of a task that is refused */
        require(strlen(start.id) <= FL_TASK_ID_MAX);
    }
    if (status != FL_MESSAGE_OK) {
        return;
    }
    switch (kind) {
    case 0:
        require(start.id[0] != '\0' && strlen(start.image_url) <= FL_IMAGE_URL_MAX);
        require(strlen(start.name) <= FL_TASK_NAME_MAX && start.env.size <= FL_ENV_CAPACITY);
        require(start.env.size == 0 || start.env.text[start.env.size - 1] == '\0');
        require(!start.has_model_sha256 || (fl_env_get(&start.env, "ROUND_ID") != NULL &&
                                            fl_env_get(&start.env, "MODEL_URI") != NULL));
        break;
    case 1:
        require(stop.id[0] != '\0');
        break;
    case 2:
        require(ack.round_id[0] != '\0' && ack.proplet_id[0] != '\0');
        check_id(ack.round_id);
        check_id(ack.proplet_id);
        break;
    case 3:
        require(complete.round_id[0] != '\0');
        check_id(complete.round_id);
        break;
    default:
        require(chunks.complete ? chunks.next == chunks.total : true);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned int kind;
    size_t piece;

    if (size < 2) {
        return 0;
    }
    kind = data[0] % 5u;
    piece = data[1] % 32u + 1u;
    begin(kind);
    for (size_t at = 2; at < size; at += piece) {
        (void)fl_message_feed(&decoder, (const char *)data + at,
                              size - at < piece ? size - at : piece);
    }
    check(kind, fl_message_end(&decoder));
    return 0;
}
