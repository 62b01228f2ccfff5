#include "message_private.h"

#include <string.h>

#define PLACE(type, member)                                                                        \
    (uint16_t) offsetof(type, member), (uint16_t)sizeof(((type *)NULL)->member)

static const struct fl_field task_start_fields[] = {
    {"id", FIELD_STRING, true, PLACE(struct fl_task_start, id)},
    {"name", FIELD_EXCERPT, false, PLACE(struct fl_task_start, name)},
    {"proplet_id", FIELD_ID, false, PLACE(struct fl_task_start, proplet_id)},
    {"image_url", FIELD_STRING, false, PLACE(struct fl_task_start, image_url)},
    {"image_sha256", FIELD_SHA256, false, PLACE(struct fl_task_start, image_sha256)},
    {"env", FIELD_ENV, false, PLACE(struct fl_task_start, env)},
    {"fl", FIELD_FL, false, 0, 0},
    {"image_signatures", FIELD_SIGNATURES, false, PLACE(struct fl_task_start, image_signatures)},
    {"file", FIELD_BASE64, false, 0, 0},
    {"encrypted", FIELD_FORBIDDEN, false, PLACE(struct fl_task_start, unsupported)},
    {"latent", FIELD_FORBIDDEN, false, PLACE(struct fl_task_start, unsupported)},
    {"inputs", FIELD_WORDS, false, PLACE(struct fl_task_start, inputs)},
    {"broadcast", FIELD_FLAG, false, PLACE(struct fl_task_start, broadcast)},
#if FL_ARGS_SUPPORTED
    {"cli_args", FIELD_ARGS, false, PLACE(struct fl_task_start, cli_args)},
    {"daemon", FIELD_FLAG, false, PLACE(struct fl_task_start, daemon)},
#else
    {"cli_args", FIELD_FORBIDDEN, false, PLACE(struct fl_task_start, unsupported)},
    {"daemon", FIELD_FORBIDDEN, false, PLACE(struct fl_task_start, unsupported)},
#endif
    {NULL, 0, false, 0, 0},
};

#define FL_PREFIX "fl."

static const struct fl_field task_spec_fields[] = {
    {FL_PREFIX "round_id", FIELD_ID, true, PLACE(struct fl_task_spec, round_id)},
    {FL_PREFIX "model_uri", FIELD_MODEL_URI, true, PLACE(struct fl_task_spec, model_uri)},
    {FL_PREFIX "model_sha256", FIELD_SHA256, false, PLACE(struct fl_task_spec, model_sha256)},
    {FL_PREFIX "format", FIELD_STRING, false, PLACE(struct fl_task_spec, format)},
    {FL_PREFIX "deadline", FIELD_NUMBER, false, 0, 0},
    {FL_PREFIX "hyperparams", FIELD_FLAT, false, 0, 0},
    {NULL, 0, false, 0, 0},
};

static const struct fl_field task_stop_fields[] = {
    {"id", FIELD_STRING, true, PLACE(struct fl_task_stop, id)},
    {"proplet_id", FIELD_ID, false, PLACE(struct fl_task_stop, proplet_id)},
    {NULL, 0, false, 0, 0},
};

static const struct fl_field update_ack_fields[] = {
    {"round_id", FIELD_ID, true, PLACE(struct fl_update_ack, round_id)},
    {"proplet_id", FIELD_ID, true, PLACE(struct fl_update_ack, proplet_id)},
    {"status", FIELD_VERDICT, true, PLACE(struct fl_update_ack, accepted)},
    {"reason", FIELD_EXCERPT, false, PLACE(struct fl_update_ack, reason)},
    {"detail", FIELD_EXCERPT, false, PLACE(struct fl_update_ack, detail)},
    {"sha256", FIELD_SHA256, true, PLACE(struct fl_update_ack, sha256)},
    {NULL, 0, false, 0, 0},
};

static const struct fl_field round_complete_fields[] = {
    {"round_id", FIELD_ID, true, PLACE(struct fl_round_complete, round_id)},
    {"status", FIELD_EXCERPT, false, PLACE(struct fl_round_complete, status)},
    {NULL, 0, false, 0, 0},
};

static const struct fl_field image_chunk_fields[] = {
    {"app_name", FIELD_STRING, true, PLACE(struct fl_chunk_header, app_name)},
    {"chunk_idx", FIELD_COUNT, true, PLACE(struct fl_chunk_header, index)},
    {"total_chunks", FIELD_COUNT, true, PLACE(struct fl_chunk_header, total)},
    {"data", FIELD_BASE64, true, 0, 0},
    {NULL, 0, false, 0, 0},
};

bool message_fail(struct fl_message_decoder *decoder, enum fl_message_status status,
                  const char *field)
{
    const struct fl_field *spec = decoder->spec;

    decoder->status = status;
    decoder->field = field;
    /* No half of a string is left behind. */
    if (spec != NULL && (decoder->filled & message_bit(decoder, spec)) == 0 &&
        (spec->type == FIELD_ID || spec->type == FIELD_STRING)) {
        ((char *)decoder->target)[spec->offset] = '\0';
    }
    if (decoder->kind == FL_MESSAGE_IMAGE_CHUNK && decoder->stream != NULL) {
        decoder->chunks->failed = true; /* part of its data is in the stream already */
    }
    return false;
}

uint32_t message_bit(const struct fl_message_decoder *decoder, const struct fl_field *field)
{
    return (uint32_t)1 << (field - decoder->fields);
}

const struct fl_field *message_find_field(const struct fl_message_decoder *decoder,
                                          const char *name)
{
    size_t prefix = decoder->fields == task_spec_fields ? sizeof(FL_PREFIX) - 1 : 0;

    for (const struct fl_field *field = decoder->fields; field->name != NULL; field++) {
        if (strcmp(field->name + prefix, name) == 0) {
            return field;
        }
    }
    return NULL;
}

static bool is_filled(const struct fl_message_decoder *decoder, const char *name)
{
    const struct fl_field *field = message_find_field(decoder, name);

    return (decoder->filled & message_bit(decoder, field)) != 0;
}

/* Whether all is there that must be. */
static bool check_required(struct fl_message_decoder *decoder)
{
    for (const struct fl_field *field = decoder->fields; field->name != NULL; field++) {
        if (field->required && (decoder->filled & message_bit(decoder, field)) == 0) {
            return message_fail(decoder, FL_MESSAGE_MISSING_FIELD, field->name);
        }
    }
    return true;
}

void message_enter_fl(struct fl_message_decoder *decoder)
{
    decoder->outer = (struct fl_message_outer){
        .fields = decoder->fields,
        .target = decoder->target,
        .seen = decoder->seen,
        .filled = decoder->filled,
    };
    decoder->fields = task_spec_fields;
    decoder->target = &decoder->task_spec;
    decoder->spec = NULL;
    decoder->seen = 0;
    decoder->filled = 0;
    decoder->depth = 2;
}

/* The object "fl" has ended. */
static bool leave_fl(struct fl_message_decoder *decoder)
{
    struct fl_task_start *task = decoder->outer.target;

    decoder->spec = NULL;
    if (!check_required(decoder)) {
        return false;
    }
    task->has_model_sha256 = is_filled(decoder, "model_sha256");
    memcpy(task->model_sha256, decoder->task_spec.model_sha256, FL_SHA256_SIZE);
    decoder->fields = decoder->outer.fields;
    decoder->target = decoder->outer.target;
    decoder->seen = decoder->outer.seen;
    decoder->filled = decoder->outer.filled;
    decoder->depth = 1;
    return true;
}

static bool on_json(void *user, const struct fl_json_event *event)
{
    struct fl_message_decoder *decoder = user;

    if (event->depth == 0) {
        bool object = event->type == FL_JSON_OBJECT_BEGIN || event->type == FL_JSON_OBJECT_END;

        decoder->spec = NULL;
        return object || message_fail(decoder, FL_MESSAGE_UNDECODABLE, "");
    }
    if (event->depth < decoder->depth) {
        return leave_fl(decoder);
    }
    if (event->depth == decoder->depth && event->type == FL_JSON_KEY) {
        /* A key with a NUL in it is longer than its name as a string, and so none of ours. */
        decoder->spec =
            strlen(event->text) == event->size ? message_find_field(decoder, event->text) : NULL;
        if (decoder->spec != NULL) {
            uint32_t bit = message_bit(decoder, decoder->spec);

            if ((decoder->seen & bit) != 0) {
                return message_fail(decoder, FL_MESSAGE_BAD_FIELD, decoder->spec->name);
            }
            decoder->seen |= bit;
        }
        return true;
    }
    return decoder->spec == NULL || message_read_field(decoder, event);
}

/* Decides where a base64 field's bytes go, before the first of them. */
bool message_open_data(struct fl_message_decoder *decoder)
{
    struct fl_image_chunks *chunks = decoder->chunks;

    if (decoder->kind != FL_MESSAGE_IMAGE_CHUNK) {
        return true;
    }
    if (!is_filled(decoder, "app_name")) {
        return message_fail(decoder, FL_MESSAGE_MISSING_FIELD, "app_name");
    }
    if (!is_filled(decoder, "chunk_idx")) {
        return message_fail(decoder, FL_MESSAGE_MISSING_FIELD, "chunk_idx");
    }
    if (strcmp(decoder->chunk.app_name, chunks->app_name) == 0 && !chunks->failed &&
        !chunks->complete) {
        chunks->failed = decoder->chunk.index > chunks->next;
        decoder->stream = decoder->chunk.index == chunks->next ? chunks->stream : NULL;
    }
    return true;
}

void message_take_data(struct fl_message_decoder *decoder, const uint8_t *bytes, size_t size)
{
    /* A stream's refusal stays with the stream and is looked at in the end. */
    if (decoder->stream != NULL) {
        (void)fl_stream_write(decoder->stream, bytes, size);
    }
    if (decoder->kind == FL_MESSAGE_TASK_START) {
        struct fl_task_start *task = decoder->target;
        uint32_t room = UINT32_MAX - task->file_size_bytes;

        task->file_size_bytes += size < room ? (uint32_t)size : room;
    }
}

/* Whether "fl" says the same as the environment, which is what the module goes by. */
static bool is_in_env(const struct fl_task_start *task, const char *name, const char *said)
{
    const char *value = fl_env_get(&task->env, name);

    return value != NULL && strcmp(value, said) == 0;
}

static bool check_task_spec(struct fl_message_decoder *decoder)
{
    const struct fl_task_start *task = decoder->target;

    if (!is_filled(decoder, "fl")) {
        return true;
    }
    if (!is_in_env(task, "ROUND_ID", decoder->task_spec.round_id)) {
        return message_fail(decoder, FL_MESSAGE_BAD_FIELD, FL_PREFIX "round_id");
    }
    if (!is_in_env(task, "MODEL_URI", decoder->task_spec.model_uri)) {
        return message_fail(decoder, FL_MESSAGE_BAD_FIELD, FL_PREFIX "model_uri");
    }
    return true;
}

static bool finish_task_start(struct fl_message_decoder *decoder)
{
    struct fl_task_start *task = decoder->target;
    struct fl_topic topic;
    uint8_t digest[FL_SHA256_SIZE];

    task->has_file = task->file_size_bytes > 0;
    if (decoder->stream != NULL) {
        task->file_status = fl_stream_end(decoder->stream);
    }
    task->has_image_sha256 = is_filled(decoder, "image_sha256");
    if (fl_topic_match(NULL, task->image_url, strlen(task->image_url), &topic) == FL_TOPIC_IMAGE &&
        fl_sha256_from_hex(topic.name, strlen(topic.name), digest)) {
        if (task->has_image_sha256 && !fl_sha256_equal(digest, task->image_sha256)) {
            return message_fail(decoder, FL_MESSAGE_BAD_FIELD, "image_sha256");
        }
        task->has_image_sha256 = true;
        memcpy(task->image_sha256, digest, FL_SHA256_SIZE);
    }
    if (!task->has_file && task->image_url[0] == '\0') {
        return message_fail(decoder, FL_MESSAGE_MISSING_FIELD, "image_url");
    }
    return check_task_spec(decoder);
}

static bool finish_image_chunk(struct fl_message_decoder *decoder)
{
    struct fl_image_chunks *chunks = decoder->chunks;
    const struct fl_chunk_header *chunk = &decoder->chunk;

    if (chunk->index >= chunk->total) {
        return message_fail(decoder, FL_MESSAGE_BAD_FIELD, "chunk_idx");
    }
    if (decoder->stream == NULL) {
        return true; /* skipped: of another image, or there already */
    }
    if (chunks->total != 0 && chunks->total != chunk->total) {
        return message_fail(decoder, FL_MESSAGE_BAD_FIELD, "total_chunks");
    }
    chunks->total = chunk->total;
    chunks->next++;
    chunks->failed = chunks->stream->status != FL_STREAM_OK;
    chunks->complete = !chunks->failed && chunks->next == chunks->total;
    return true;
}

static void begin(struct fl_message_decoder *decoder, enum fl_message_kind kind,
                  const struct fl_field *fields, void *target)
{
    memset(decoder, 0, sizeof(*decoder));
    decoder->kind = kind;
    decoder->depth = 1;
    decoder->fields = fields;
    decoder->target = target;
    decoder->field = "";
    fl_json_begin(&decoder->json, on_json, decoder);
}

void fl_decode_task_start(struct fl_message_decoder *decoder, struct fl_task_start *task,
                          struct fl_stream *file)
{
    memset(task, 0, sizeof(*task));
    task->file_status = FL_STREAM_SINK_FAILED;
    begin(decoder, FL_MESSAGE_TASK_START, task_start_fields, task);
    decoder->stream = file;
}

void fl_decode_task_stop(struct fl_message_decoder *decoder, struct fl_task_stop *stop)
{
    memset(stop, 0, sizeof(*stop));
    begin(decoder, FL_MESSAGE_TASK_STOP, task_stop_fields, stop);
}

void fl_decode_update_ack(struct fl_message_decoder *decoder, struct fl_update_ack *ack)
{
    memset(ack, 0, sizeof(*ack));
    begin(decoder, FL_MESSAGE_UPDATE_ACK, update_ack_fields, ack);
}

void fl_decode_round_complete(struct fl_message_decoder *decoder, struct fl_round_complete *round)
{
    memset(round, 0, sizeof(*round));
    begin(decoder, FL_MESSAGE_ROUND_COMPLETE, round_complete_fields, round);
}

void fl_decode_image_chunk(struct fl_message_decoder *decoder, struct fl_image_chunks *chunks)
{
    begin(decoder, FL_MESSAGE_IMAGE_CHUNK, image_chunk_fields, NULL);
    decoder->target = &decoder->chunk;
    decoder->chunks = chunks;
}

static enum fl_message_status take_json_status(struct fl_message_decoder *decoder,
                                               enum fl_json_status status)
{
    switch (status) {
    case FL_JSON_OK:
    case FL_JSON_STOPPED: /* by on_json, which recorded why */
        break;
    case FL_JSON_TOO_LONG:
        (void)message_fail(decoder, FL_MESSAGE_TOO_LARGE,
                           decoder->spec == NULL ? "" : decoder->spec->name);
        break;
    default:
        (void)message_fail(decoder, FL_MESSAGE_UNDECODABLE, "");
        break;
    }
    return decoder->status;
}

enum fl_message_status fl_message_feed(struct fl_message_decoder *decoder, const char *bytes,
                                       size_t size)
{
    if (decoder->status != FL_MESSAGE_OK) {
        return decoder->status;
    }
    return take_json_status(decoder, fl_json_feed(&decoder->json, bytes, size));
}

enum fl_message_status fl_message_end(struct fl_message_decoder *decoder)
{
    if (decoder->status != FL_MESSAGE_OK ||
        take_json_status(decoder, fl_json_end(&decoder->json)) != FL_MESSAGE_OK) {
        return decoder->status;
    }
    decoder->spec = NULL;
    if (!check_required(decoder)) {
        return decoder->status;
    }
    if (decoder->kind == FL_MESSAGE_TASK_START) {
        (void)finish_task_start(decoder);
    } else if (decoder->kind == FL_MESSAGE_IMAGE_CHUNK) {
        (void)finish_image_chunk(decoder);
    }
    return decoder->status;
}

const char *fl_message_field(const struct fl_message_decoder *decoder)
{
    return decoder->field;
}

const char *fl_message_word(enum fl_message_status status)
{
    switch (status) {
    case FL_MESSAGE_OK:
        return "ok";
    case FL_MESSAGE_UNDECODABLE:
        return "undecodable";
    case FL_MESSAGE_TOO_LARGE:
        return "too_large";
    case FL_MESSAGE_MISSING_FIELD:
        return "missing_field";
    case FL_MESSAGE_BAD_FIELD:
        return "bad_field";
    case FL_MESSAGE_BAD_ID:
        return "bad_id";
    }
    return "unknown";
}
