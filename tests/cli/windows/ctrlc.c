/* ctrlc MILLISECONDS COMMANDLINE: runs it in this console, sends Ctrl-C to the
 * console, and prints the exit status and whether it took long enough. */
#include <stdio.h>
#include <stdlib.h>
#include <windows.h>

static BOOL WINAPI ignore(DWORD type)
{
    (void)type;
    return TRUE;
}

int main(int argc, char **argv)
{
    STARTUPINFOA startup = {sizeof startup};
    PROCESS_INFORMATION process;
    DWORD status;
    if (argc != 3)
        return 2;
    SetConsoleCtrlHandler(ignore, TRUE);
    if (!CreateProcessA(NULL, argv[2], NULL, NULL, TRUE, 0, NULL, NULL, &startup, &process)) {
        printf("CreateProcess: %lu\n", GetLastError());
        return 1;
    }
    Sleep(atoi(argv[1]));
    if (!GenerateConsoleCtrlEvent(CTRL_C_EVENT, 0))
        printf("GenerateConsoleCtrlEvent: %lu\n", GetLastError());
    if (WaitForSingleObject(process.hProcess, 20000) != WAIT_OBJECT_0)
        TerminateProcess(process.hProcess, 99);
    GetExitCodeProcess(process.hProcess, &status);
    printf("status %lu\n", status);
    return 0;
}
