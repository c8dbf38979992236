/* A program that takes Ctrl-C as a request: it cleans up and ends with status 7. */
#include <stdio.h>
#include <windows.h>

static HANDLE asked;

static BOOL WINAPI note(DWORD type)
{
    (void)type;
    SetEvent(asked);
    return TRUE;
}

int main(void)
{
    asked = CreateEventA(NULL, TRUE, FALSE, NULL);
    SetConsoleCtrlHandler(note, TRUE);
    if (WaitForSingleObject(asked, 15000) != WAIT_OBJECT_0)
        return 8;
    Sleep(500);
    puts("cleaned up");
    return 7;
}
