/*
 * WAMR's Zephyr layer hooks its messages into the C library's output. The host's C library, which
 * native_sim uses, has its own output and no such hook.
 */
void __stdout_hook_install(int (*hook)(int));

void __stdout_hook_install(int (*hook)(int))
{
    (void)hook;
}
