#include "pipe.h"

#include <sys/types.h>
#include <unistd.h>

static int answers; /* where standard output was */

void pipe_begin(void)
{
    answers = dup(STDOUT_FILENO);
    (void)dup2(STDERR_FILENO, STDOUT_FILENO);
}

bool pipe_read(void *to, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t count = read(STDIN_FILENO, (char *)to + done, size - done);

        if (count <= 0) {
            return false;
        }
        done += (size_t)count;
    }
    return true;
}

bool pipe_write(const void *from, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t count = write(answers, (const char *)from + done, size - done);

        if (count <= 0) {
            return false;
        }
        done += (size_t)count;
    }
    return true;
}
