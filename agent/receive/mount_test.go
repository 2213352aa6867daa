package receive

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// mountTmpfs returns a file system of that many bytes.
func mountTmpfs(t *testing.T, size int) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("nigh-test", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		t.Skipf("needs root: mount a tmpfs: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// mountImage makes a file system of that kind in a loop device and mounts it, or returns false where that is not possible.
func mountImage(t *testing.T, kind, dir string) bool {
	t.Helper()
	mkfs, err := exec.LookPath("mkfs." + kind)
	if err != nil || os.Getuid() != 0 {
		return false
	}
	image := dir + ".img"
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if os.Truncate(image, 32<<20) != nil || exec.Command(mkfs, image).Run() != nil || os.Mkdir(dir, 0o755) != nil ||
		exec.Command("mount", "-o", "loop", image, dir).Run() != nil {
		return false
	}
	t.Cleanup(func() { _ = exec.Command("umount", "-l", dir).Run() })
	return true
}
