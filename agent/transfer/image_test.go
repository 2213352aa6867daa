package transfer

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// mountExt4 returns a file system of that many bytes on a loop device.
func mountExt4(t *testing.T, size int) string {
	t.Helper()
	dir, _ := mountImage(t, size)
	return dir
}

// mountImage returns a file system of that many bytes, and the file that it is in.
func mountImage(t *testing.T, size int) (dir, image string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: mount an ext4")
	}
	dir, image = t.TempDir(), filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, int64(size)); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-m", "0", image).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.ext4: %v: %s", err, out)
	}
	if out, err := exec.Command("mount", "-o", "loop", image, dir).CombinedOutput(); err != nil {
		t.Skipf("needs loop devices: %v: %s", err, out)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir, image
}
