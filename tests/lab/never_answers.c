/* A FUSE program that takes requests and never answers them: `never-answers FOLDER`. Who asked can't
   be killed. The first who asks has the program's /dev/fuse open, too, so that it stays open when
   the program ends. */
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <sys/mount.h>
#include <unistd.h>

static char request[1 << 17];

int main(int count, char **words) {
    const char *folder = words[count - 1];
    struct {
        struct fuse_out_header head;
        struct fuse_init_out init;
    } answer = {{sizeof answer}, {FUSE_KERNEL_VERSION, 31}};
    char options[80];
    int fuse = open("/dev/fuse", O_RDWR);
    sprintf(options, "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fuse);
    if (mount("silent", folder, "fuse.silent", MS_NOSUID | MS_NODEV, options) != 0 ||
        read(fuse, request, sizeof request) < 0) {
        perror("silent");
        return 1;
    }
    answer.head.unique = ((struct fuse_in_header *)request)->unique;
    answer.init.max_write = 1 << 16;
    if (write(fuse, &answer, sizeof answer) < 0) {
        perror("answer");
        return 1;
    }
    if (fork() == 0)
        return chdir(folder) + open("x", O_RDONLY);
    if (read(fuse, request, sizeof request) < 0)
        return 1;
    puts("taken");
    fflush(stdout);
    while (read(fuse, request, sizeof request) > 0)
        continue;
}
