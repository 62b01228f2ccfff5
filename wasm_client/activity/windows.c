#include "windows.h"

/*
 * Added before the logarithm: about what a sensor at rest shows that gives bytes, a step of 1/128.
 */
#define REST_VARIANCE 0x1p-16f
#define REST_DIFFERENCE 0x1p-8f

static float label_at(const struct fl_dataset *recording, uint32_t sample)
{
    float label;

    fl_numbers_read(&recording->y, sample, &label, 1);
    return label;
}

void windows_find(struct windows *windows, const struct fl_dataset *recording,
                  struct fl_arena *arena)
{
    uint32_t channels = recording->features;
    float *starts = fl_arena_floats(
        arena, recording->samples / WINDOW_STEP + (WINDOW_SIZE + 3) * channels, "windows");
    struct fl_dataset *places = &windows->places;
    uint32_t found = 0;

    windows->recording = recording;
    windows->features = starts;
    windows->samples = starts + 3 * channels;
    starts += (WINDOW_SIZE + 3) * channels;
    windows->starts = starts;
    for (uint32_t end = WINDOW_SIZE; end <= recording->samples; end += WINDOW_STEP) {
        uint32_t start = end - WINDOW_SIZE;

        if (label_at(recording, start) == label_at(recording, end - 1)) {
            starts[found++] = (float)start;
        }
    }
    if (found == 0) {
        fl_fail("data: no window has one label");
    }
    places->samples = found;
    places->features = 1;
    places->x.source.memory = (const uint8_t *)starts;
    places->x.source.memory_size = UINT32_MAX; /* reads stay inside: they go by the count */
    places->x.scale = 1.0f;
    places->y = places->x;
}

float windows_look(const struct windows *windows, float start)
{
    const struct fl_dataset *recording = windows->recording;
    uint32_t first = (uint32_t)fl_truncate(start);
    uint32_t channels = recording->features;
    uint32_t count = WINDOW_SIZE * channels;
    const float *end = windows->samples + count;
    float *features = windows->features;

    fl_numbers_read(&recording->x, first * channels, windows->samples, count);
    for (const float *channel = windows->samples; channel < windows->samples + channels;
         channel++, features++) {
        float before = *channel;
        float mean = 0.0f;
        float variance = 0.0f;
        float difference = 0.0f;

        for (const float *at = channel; at < end; at += channels) {
            float change = *at - before;

            mean += *at;
            difference += change < 0.0f ? -change : change;
            before = *at;
        }
        mean /= WINDOW_SIZE;
        for (const float *at = channel; at < end; at += channels) {
            variance += (*at - mean) * (*at - mean);
        }
        features[0] = mean;
        features[channels] = fl_log(variance / WINDOW_SIZE + REST_VARIANCE);
        features[2 * channels] = fl_log(difference / (WINDOW_SIZE - 1) + REST_DIFFERENCE);
    }
    return label_at(recording, first);
}
