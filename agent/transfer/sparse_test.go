package transfer

import (
	"os"
	ossignal "os/signal"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"nigh/agent/content"
)

// blocks is how many bytes a file takes on its disk.
func blocks(t *testing.T, path string) int64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks * 512
}

func digest(t *testing.T, path string) content.Hash {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content.Sum(raw)
}

// What is a hole in a large file that is sent takes no room where it is received, also at its end.
func TestHolesStayHoles(t *testing.T) {
	for kind, mount := range map[string]func(*testing.T, int) string{"tmpfs": mountTmpfs, "ext4": mountExt4} {
		t.Run(kind, func(t *testing.T) {
			dir := mount(t, 128<<20)
			b := newBed(t)
			alice, bob := b.device("alice", nil), b.onSmallDisk(dir)
			src := t.TempDir()
			disk := write(t, filepath.Join(src, "disk"), 2<<20)
			f, err := os.OpenFile(disk, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteAt([]byte("in the middle"), 20<<20+77); err != nil {
				t.Fatal(err)
			}
			if err := f.Truncate(40<<20 + 13); err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			alice.send(bob, disk)
			bob.untilState(Done)
			alice.untilState(Done)
			if want, got := digest(t, disk), digest(t, filepath.Join(dir, "disk")); got != want {
				t.Errorf("what came has the hash %s, what was sent %s", got, want)
			}
			if n := blocks(t, filepath.Join(dir, "disk")); n > 3<<20 {
				t.Errorf("2.3 MiB of 40 were written, and the file takes %d bytes", n)
			}
		})
	}
}

// A file that is larger than a file may be here fails alone, in one word and before its bytes are sent.
func TestFileLargerThanAFileMayBe(t *testing.T) {
	b := newBed(t)
	alice, bob := b.device("alice", nil), b.device("bob", acceptAll)
	src := t.TempDir()
	note := write(t, filepath.Join(src, "note"), 5000)
	huge := write(t, filepath.Join(src, "huge"), 20<<20)
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &was); err != nil {
		t.Fatal(err)
	}
	ossignal.Ignore(unix.SIGXFSZ)
	defer ossignal.Reset(unix.SIGXFSZ)
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 16 << 20, Max: was.Max}); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &was); err != nil {
			t.Error(err)
		}
	}()
	alice.send(bob, huge, note)
	end := bob.untilState(Failed)
	if len(end.Failures) != 1 || end.Failures[0].Path != "huge" || end.Failures[0].Code != "file_size" || end.Sent > 1<<20 {
		t.Errorf("it ended as %+v", end)
	}
	bob.clean("note")
}
