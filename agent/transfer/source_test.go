package transfer

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"nigh/agent/identity"
)

// The source changes while it is sent: that file fails, in so many words; the others come.
func TestSourceChanges(t *testing.T) {
	const big = 24 << 20
	spare := write(t, filepath.Join(t.TempDir(), "spare"), big)
	for name, change := range map[string]func(path string) error{
		"appended":  func(p string) error { return os.WriteFile(p, make([]byte, big+1), 0o644) },
		"truncated": func(p string) error { return os.Truncate(p, 100) },
		"same size, time put back": func(p string) error {
			fi, err := os.Stat(p)
			if err != nil {
				return err
			}
			f, err := os.OpenFile(p, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			if _, err = f.WriteAt([]byte("x"), big-1); err == nil {
				err = f.Close()
			}
			return errors.Join(err, os.Chtimes(p, fi.ModTime(), fi.ModTime()))
		},
		"replaced": func(p string) error { return os.Rename(spare, p) },
		"removed":  os.Remove,
		"fifo":     func(p string) error { return errors.Join(os.Remove(p), unix.Mkfifo(p, 0o644)) },
		"link":     func(p string) error { return errors.Join(os.Remove(p), os.Symlink("/etc/passwd", p)) },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			alice, bob := b.device("alice", nil), b.device("bob", acceptAll)
			dir := filepath.Join(t.TempDir(), "tree")
			write(t, filepath.Join(dir, "a"), 5000)
			path := write(t, filepath.Join(dir, "film"), big)
			write(t, filepath.Join(dir, "z"), 3<<20)
			write(t, filepath.Join(dir, "zz"), 100)
			alice.after(8<<20, func() {
				if err := change(path); err != nil {
					t.Error(err)
				}
			})
			alice.send(bob, dir)
			got := bob.failedWith("some_failed")
			if got.FilesFailed != 1 || len(got.Failures) != 1 || got.Failures[0].Path != "tree/film" {
				t.Fatalf("failures %+v", got.Failures)
			}
			if code := got.Failures[0].Code; code != "changed" {
				t.Errorf("the file failed with %q", code)
			}
			for _, name := range []string{"a", "z", "zz"} {
				same(t, filepath.Join(dir, name), filepath.Join(got.Path, name))
			}
			if _, err := os.Lstat(filepath.Join(got.Path, "film")); err == nil {
				t.Error("something of the changed file lies there")
			}
			if s := alice.failedWith("some_failed"); s.FilesFailed != 1 {
				t.Errorf("the sender was told of %d failed files", s.FilesFailed)
			}
			bob.clean("tree")
		})
	}
}

// A small file too; alone it gives its word to the transfer.
func TestSmallSourceChanged(t *testing.T) {
	b := newBed(t)
	alice, bob := b.device("alice", nil), b.device("bob", nil)
	path := write(t, filepath.Join(t.TempDir(), "note"), 100)
	alice.send(bob, path)
	offer := bob.untilState(Waiting)
	write(t, path, 101)
	if err := bob.Accept(offer.ID, ""); err != nil {
		t.Fatal(err)
	}
	bob.failedWith("changed")
	alice.failedWith("changed")
	bob.emptied()
}

// Nothing is offered when a file cannot be read, and the error names it.
func TestUnreadableSource(t *testing.T) {
	b := newBed(t)
	alice, bob := b.device("alice", nil), b.device("bob", nil)
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(dir, "tree", "fine"), 10)
	bad := write(t, filepath.Join(dir, "tree", "sub", "not mine"), 10)
	if err := os.Chmod(bad, 0); err != nil {
		t.Fatal(err)
	}
	send := func(path string) error {
		_, err := alice.Send(context.Background(), SendRequest{Paths: []string{path}, To: []identity.DeviceID{bob.id}})
		return err
	}
	var err error
	asNobody(t, func() { _, err = walk(context.Background(), []string{filepath.Join(dir, "tree")}) })
	if !errors.Is(err, ErrUnreadable) || !strings.Contains(err.Error(), "not mine") {
		t.Errorf("unreadable file: %v", err)
	}
	for path, want := range map[string]error{filepath.Join(dir, "missing"): ErrUnreadable, "relative": ErrUnreadable, "/": ErrNotRegular, "/dev/null": ErrNotRegular} {
		if err := send(path); !errors.Is(err, want) {
			t.Errorf("Send(%s) = %v, want %v", path, err, want)
		}
	}
	if len(alice.Transfers())+len(bob.Transfers()) != 0 {
		t.Error("something was offered")
	}
}

// asNobody runs fn on a thread without rights.
func asNobody(t *testing.T, fn func()) {
	t.Helper()
	if os.Getuid() != 0 {
		fn()
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with its goroutine
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, 65534, 65534, 65534); errno != 0 {
			t.Errorf("setresuid: %v", errno)
			return
		}
		fn()
	}()
	<-done
}

// Links are neither followed nor sent, special files neither opened; both persons are told.
func TestSkipped(t *testing.T) {
	b := newBed(t)
	alice, bob := b.device("alice", nil), b.device("bob", acceptAll)
	dir := filepath.Join(t.TempDir(), "tree")
	write(t, filepath.Join(dir, "file"), 10)
	outside := write(t, filepath.Join(t.TempDir(), "outside"), 10)
	for name, target := range map[string]string{"abs": outside, "in": "file", "dangling": "nowhere", "loop": "loop", "dir": filepath.Dir(outside)} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(filepath.Join(dir, "fifo"), 0o644); err != nil {
		t.Fatal(err)
	}
	special := 2
	socket, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	if unix.Mknod(filepath.Join(dir, "null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))) == nil { // which only root may make
		special++
	}
	// A program with every bit that lends rights: it arrives as a program.
	suid := write(t, filepath.Join(dir, "suid"), 10)
	if err := os.Chmod(suid, 0o755|fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky); err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(suid); err != nil || fi.Mode()&(fs.ModeSetuid|fs.ModeSetgid) == 0 {
		t.Fatalf("the program lends no rights here (%v): this shows nothing", err)
	}
	for _, name := range []string{"bad\xff", "esc\x1b[2J", `back\slash`} {
		write(t, filepath.Join(dir, name), 1)
	}
	alice.send(bob, dir)
	got := bob.untilState(Done)
	if s := got.Skipped; s.Links != 5 || s.Special != special || s.Names != 3 || len(s.Examples) != 8+special {
		t.Errorf("skipped %+v", s)
	}
	for _, example := range got.Skipped.Examples {
		if strings.Contains(example, "\x1b") || !utf8.ValidString(example) {
			t.Errorf("raw example %q", example)
		}
	}
	if l := list(t, got.Path); len(l) != 3 {
		t.Errorf("arrived: %v", l)
	}
	if fi, err := os.Stat(filepath.Join(got.Path, "suid")); err != nil || fi.Mode()&^fs.ModePerm != 0 || fi.Mode()&0o100 == 0 {
		t.Errorf("the program arrived as %v, %v", fi.Mode(), err)
	}
	if _, err := alice.Send(context.Background(), SendRequest{Paths: []string{filepath.Join(dir, "abs")}, To: []identity.DeviceID{bob.id}}); !errors.Is(err, ErrNotRegular) {
		t.Errorf("a link by name: %v", err)
	}
}

// Several paths, one of them twice, two with one name.
func TestSeveralPaths(t *testing.T) {
	b := newBed(t)
	alice, bob := b.device("alice", nil), b.device("bob", acceptAll)
	one, two, dir := write(t, filepath.Join(t.TempDir(), "a.txt"), 10), write(t, filepath.Join(t.TempDir(), "a.txt"), 2<<20), folder(t)
	alice.send(bob, one, dir, two, one)
	got := bob.untilState(Done)
	bob.clean("Fotos", "a (1).txt", "a.txt")
	same(t, one, filepath.Join(bob.inbox, "a.txt"))
	same(t, two, filepath.Join(bob.inbox, "a (1).txt"))
	same(t, dir, filepath.Join(bob.inbox, "Fotos"))
	if got.Path != bob.inbox || got.Tops != 3 {
		t.Errorf("lies in %s, %d names", got.Path, got.Tops)
	}
}

// A directory that was offered is swapped for a link, again and again: what lies behind the link is never read, though it looks the same.
func TestSourceDirectorySwapped(t *testing.T) {
	dir, outside := filepath.Join(t.TempDir(), "tree"), t.TempDir()
	sub := filepath.Join(dir, "sub")
	inside := write(t, filepath.Join(sub, "file"), 1000)
	secret := filepath.Join(outside, "file")
	if err := os.WriteFile(secret, bytes.Repeat([]byte("s"), 1000), 0o644); err != nil {
		t.Fatal(err)
	}
	src, err := walk(context.Background(), []string{dir})
	if err != nil {
		t.Fatal(err)
	}
	fi, err := os.Stat(inside)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(secret, fi.ModTime(), fi.ModTime()); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var swapper sync.WaitGroup
	swapper.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				_ = os.Rename(sub, sub+".aside")
				_ = os.Symlink(outside, sub)
				_ = os.Remove(sub)
				_ = os.Rename(sub+".aside", sub)
			}
		}
	})
	entry, _ := src.from(src.entries() - 1).next()
	read, refused := 0, 0
	for range 3000 {
		r := src.newReader()
		buf := make([]byte, 1000)
		if err := r.readWhole(&entry, buf); err != nil {
			refused++
			if !errors.Is(err, ErrChanged) {
				t.Errorf("refused with %v", err)
			}
		} else if read++; bytes.Contains(buf, []byte("sss")) {
			t.Fatal("the secret was read")
		}
		r.close()
	}
	close(stop)
	swapper.Wait()
	t.Logf("%d read, %d refused", read, refused)
	if read == 0 || refused == 0 {
		t.Errorf("the race was not met: %d read, %d refused", read, refused)
	}
}
