/* hold FILE MILLISECONDS: keeps the file open, as a virus scanner does. */
#include <stdio.h>
#include <stdlib.h>
#include <windows.h>

int main(int argc, char **argv)
{
    HANDLE file;
    if (argc != 3)
        return 2;
    file = CreateFileA(argv[1], GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_WRITE, NULL,
                       OPEN_EXISTING, 0, NULL);
    if (file == INVALID_HANDLE_VALUE) {
        printf("error %lu\n", GetLastError());
        return 1;
    }
    puts("open");
    fflush(stdout);
    Sleep(atoi(argv[2]));
    return 0;
}
