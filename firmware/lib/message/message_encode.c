#include "fl_json_writer.h"
#include "fl_message.h"
#include "fl_text.h"

static void put_string(struct fl_json_writer *writer, const char *key, const char *value)
{
    fl_json_write_key(writer, key);
    fl_json_write_string(writer, value);
}

static void put_optional(struct fl_json_writer *writer, const char *key, const char *value)
{
    if (value != NULL) {
        put_string(writer, key, value);
    }
}

size_t fl_encode_discovery(char *out, size_t capacity, const struct fl_discovery *discovery)
{
    struct fl_json_writer writer;
    struct fl_text memory;
    char memory_bytes[21]; /* 2^64 has 20 digits */

    fl_text_begin(&memory, memory_bytes, sizeof(memory_bytes));
    fl_text_put_u64(&memory, discovery->memory_bytes);
    fl_json_writer_begin(&writer, out, capacity);
    fl_json_write_object_begin(&writer);
    put_string(&writer, "proplet_id", discovery->proplet_id);
    put_optional(&writer, "namespace", discovery->name_space);
    fl_json_write_key(&writer, "metadata");
    fl_json_write_object_begin(&writer);
    put_optional(&writer, "runtime", discovery->runtime);
    put_optional(&writer, "arch", discovery->arch);
    put_string(&writer, "memory_bytes", memory_bytes);
    put_optional(&writer, "version", discovery->version);
    put_string(&writer, "own_start_topic", "true");
    put_optional(&writer, "board", discovery->board);
    put_optional(&writer, "os", discovery->os);
    put_optional(&writer, "description", discovery->description);
    /* The same in Propeller's names. */
    put_optional(&writer, "wasm_runtime", discovery->runtime);
    put_optional(&writer, "cpu_arch", discovery->arch);
    put_optional(&writer, "proplet_version", discovery->version);
    fl_json_write_key(&writer, "total_memory_bytes");
    fl_json_write_u64(&writer, discovery->memory_bytes);
    fl_json_write_object_end(&writer);
    fl_json_write_object_end(&writer);
    return fl_json_writer_end(&writer);
}

size_t fl_encode_alive(char *out, size_t capacity, const char *proplet_id, const char *name_space,
                       bool alive)
{
    struct fl_json_writer writer;

    fl_json_writer_begin(&writer, out, capacity);
    fl_json_write_object_begin(&writer);
    put_string(&writer, "proplet_id", proplet_id);
    put_string(&writer, "status", alive ? "alive" : "offline");
    put_optional(&writer, "namespace", name_space);
    fl_json_write_object_end(&writer);
    return fl_json_writer_end(&writer);
}

size_t fl_encode_result(char *out, size_t capacity, const struct fl_result *result)
{
    struct fl_json_writer writer;

    fl_json_writer_begin(&writer, out, capacity);
    fl_json_write_object_begin(&writer);
    put_string(&writer, "task_id", result->task_id);
    put_string(&writer, "proplet_id", result->proplet_id);
    fl_json_write_key(&writer, "results");
    if (result->results != NULL) {
        fl_json_write_string_n(&writer, result->results, result->results_size);
    } else {
        fl_json_write_null(&writer);
    }
    fl_json_write_key(&writer, "error");
    if (result->error != NULL) {
        fl_json_write_string(&writer, result->error);
    } else {
        fl_json_write_null(&writer);
    }
    fl_json_write_object_end(&writer);
    return fl_json_writer_end(&writer);
}

size_t fl_encode_image_request(char *out, size_t capacity, const char *app_name)
{
    struct fl_json_writer writer;

    fl_json_writer_begin(&writer, out, capacity);
    fl_json_write_object_begin(&writer);
    put_string(&writer, "app_name", app_name);
    fl_json_write_object_end(&writer);
    return fl_json_writer_end(&writer);
}
