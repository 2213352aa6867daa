package sandbox

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// dir opens a directory as the agent may, which is to look only.
func dir(t *testing.T, path string) int {
	t.Helper()
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

func TestBrokerOpensOnlyBelowGrants(t *testing.T) {
	home := t.TempDir()
	for name, text := range map[string]string{
		"secret": "s", "letter": "l", "letters/one": "1", "pictures/cat": "c", "pictures/in/dog": "d", "into/old": "o",
	} {
		path := filepath.Join(home, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"pictures/out": home, "pictures/secret": filepath.Join(home, "secret"), "way": filepath.Join(home, "pictures")} {
		if err := os.Symlink(to, filepath.Join(home, link)); err != nil {
			t.Fatal(err)
		}
	}
	b := newBroker()
	for path, write := range map[string]bool{"letter": false, "way": false, "into": true} {
		if _, err := b.do(&request{verb: verbGrant, a: filepath.Join(home, path), flags: map[bool]uint32{true: 1}[write]}); err != nil {
			t.Fatal(err)
		}
	}
	const create = unix.O_WRONLY | unix.O_CREAT
	for _, tt := range []struct {
		verb  byte
		at    string
		name  string
		flags uint32
		want  error
	}{
		{verbOpen, ".", "letter", unix.O_RDONLY, nil},
		{verbOpen, "pictures", "cat", unix.O_RDONLY, nil}, // granted as "way", which is a link
		{verbOpen, "way", "cat", unix.O_RDONLY, nil},
		{verbOpen, "pictures/in", "dog", unix.O_RDONLY, nil},
		{verbOpen, "pictures", ".", unix.O_RDONLY | unix.O_DIRECTORY, nil},
		{verbOpen, "into", "new", create, nil},
		{verbMkdir, "into", "folder", 0, nil},
		{verbUnlink, "into", "old", 0, nil},
		{verbRemoveAll, "into", "folder", 0, nil},

		{verbOpen, ".", "secret", unix.O_RDONLY, unix.EACCES},
		{verbOpen, "letters", "one", unix.O_RDONLY, unix.EACCES}, // begins as a granted name
		{verbOpen, ".", ".", unix.O_RDONLY, unix.EACCES},
		{verbOpen, "pictures", "..", unix.O_RDONLY, unix.EACCES},
		{verbOpen, "pictures", "in/dog", unix.O_RDONLY, unix.EACCES},
		{verbOpen, "pictures", filepath.Join(home, "secret"), unix.O_RDONLY, unix.EACCES},
		{verbOpen, "pictures", "", unix.O_RDONLY, unix.EACCES},
		{verbOpen, "pictures", "secret", unix.O_RDONLY, unix.ELOOP},
		{verbOpen, "pictures", "out", unix.O_RDONLY | unix.O_DIRECTORY, unix.ENOTDIR},
		{verbOpen, "pictures/out", "secret", unix.O_RDONLY, unix.EACCES}, // the directory was reached through the link
		{verbOpen, "pictures", "cat", unix.O_RDWR, unix.EACCES},
		{verbOpen, "pictures", "cat", unix.O_RDONLY | unix.O_TRUNC, unix.EACCES},
		{verbOpen, "pictures", "new", create, unix.EACCES},
		{verbOpen, ".", "letter", unix.O_WRONLY, unix.EACCES},
		{verbMkdir, ".", "folder", 0, unix.EACCES},
		{verbMkdir, "pictures", "folder", 0, unix.EACCES},
		{verbUnlink, "pictures", "cat", 0, unix.EACCES},
		{verbRemoveAll, "pictures", "in", 0, unix.EACCES},
		{verbRemoveAll, ".", "letter", 0, unix.EACCES},
		{99, "into", "new", 0, unix.ENOSYS},
	} {
		r := request{verb: tt.verb, a: tt.name, flags: tt.flags, mode: 0o600, dirs: []int{dir(t, filepath.Join(home, tt.at))}}
		fd, err := b.do(&r)
		if fd >= 0 {
			_ = unix.Close(fd)
		}
		if !errors.Is(err, tt.want) {
			t.Errorf("verb %d, %q in %s, flags %#x: %v, want %v", tt.verb, tt.name, tt.at, tt.flags, err, tt.want)
		}
		if (fd >= 0) != (err == nil && tt.verb == verbOpen) {
			t.Errorf("verb %d, %q in %s: descriptor %d with %v", tt.verb, tt.name, tt.at, fd, err)
		}
	}
	into, pictures := dir(t, filepath.Join(home, "into")), dir(t, filepath.Join(home, "pictures"))
	for _, tt := range []struct {
		verb byte
		dirs []int
		want error
	}{
		{verbLink, []int{into, into}, nil}, {verbRename, []int{into, pictures}, unix.EACCES}, {verbRename, []int{pictures, into}, unix.EACCES},
		{verbLink, []int{pictures, into}, unix.EACCES}, {verbRename, []int{into}, unix.EBADF}, {verbOpen, nil, unix.EBADF},
	} {
		if _, err := b.do(&request{verb: tt.verb, a: "new", b: "newer", dirs: tt.dirs}); !errors.Is(err, tt.want) {
			t.Errorf("verb %d with %d directories: %v, want %v", tt.verb, len(tt.dirs), err, tt.want)
		}
	}
	for path, want := range map[string]error{
		filepath.Join(home, "into/deep/er"): nil, filepath.Join(home, "else"): unix.EACCES, "into/relative": unix.EACCES,
		filepath.Join(home, "into") + "/../else": unix.EACCES,
	} {
		if _, err := b.do(&request{verb: verbMkdirAll, a: path, mode: 0o700}); !errors.Is(err, want) {
			t.Errorf("make %s: %v, want %v", path, err, want)
		}
	}
	for _, path := range []string{"/", "relative", ""} {
		if _, err := b.do(&request{verb: verbGrant, a: path}); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("grant of %q: %v", path, err)
		}
	}
	if text, err := os.ReadFile(filepath.Join(home, "secret")); err != nil || string(text) != "s" {
		t.Errorf("the secret: %q, %v", text, err)
	}
}

// A sandbox with a broker in this process: the messages and the lanes, without the rules of the kernel.
func TestRequestsReachTheBroker(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	s := newSandbox(pair[0])
	served := make(chan struct{})
	go func() {
		newBroker().serve(pair[1])
		close(served)
	}()
	home := t.TempDir()
	if err := os.WriteFile(filepath.Join(home, "file"), []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	open := request{verb: verbOpen, a: "file", dirs: []int{dir(t, home)}}
	if _, err := s.ask(open); !errors.Is(err, unix.EACCES) {
		t.Errorf("opened before it was granted: %v", err)
	}
	if _, err := s.ask(request{verb: verbGrant, a: home}); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	const askers = 3 * maxLanes
	for range askers {
		go func() {
			for range 50 {
				fd, err := s.ask(open)
				if err != nil {
					done <- err
					return
				}
				text := make([]byte, 10)
				n, err := unix.Read(fd, text)
				_ = unix.Close(fd)
				if err != nil || string(text[:n]) != "content" {
					done <- errors.Join(err, errors.New(string(text[:n])))
					return
				}
			}
			done <- nil
		}()
	}
	for range askers {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	opened := s.openAll(open.dirs[0], []string{"file", "none", "..", "file"}, unix.O_RDONLY)
	for i, want := range []error{nil, unix.ENOENT, unix.EACCES, nil} {
		if o := opened[i]; !errors.Is(o.Err, want) || (o.FD >= 0) != (want == nil) {
			t.Errorf("file %d of several: %+v, want %v", i, o, want)
		} else if want == nil {
			_ = unix.Close(o.FD)
		}
	}
	if opened := s.openAll(open.dirs[0], []string{"file", "file"}, unix.O_RDWR); !errors.Is(opened[0].Err, unix.EACCES) || !errors.Is(opened[1].Err, unix.EACCES) {
		t.Errorf("several to write: %+v", opened)
	}
	many := s.openAll(open.dirs[0], slices.Repeat([]string{"file"}, maxOpen), unix.O_RDONLY)
	for i, o := range many {
		if o.Err != nil {
			t.Fatalf("file %d of %d: %v", i, maxOpen, o.Err)
		}
		_ = unix.Close(o.FD)
	}
	if s.made > maxLanes {
		t.Errorf("%d lanes", s.made)
	}
	if _, err := s.ask(request{verb: verbGrant, a: string(make([]byte, maxPath+1))}); !errors.Is(err, unix.ENAMETOOLONG) {
		t.Errorf("a path too long: %v", err)
	}
	s.shut()
	<-served
	if _, err := s.ask(open); !errors.Is(err, ErrBroker) {
		t.Errorf("without a broker: %v", err)
	}
}

func TestRequestsSurviveTheWire(t *testing.T) {
	want := request{verb: verbRename, flags: 1 << 31, mode: 0o777, a: "from", b: "to"}
	p, err := want.bytes()
	if err != nil {
		t.Fatal(err)
	}
	got, err := parse(p)
	if err != nil || got.verb != want.verb || got.flags != want.flags || got.mode != want.mode || got.a != want.a || got.b != want.b {
		t.Errorf("%+v became %+v, %v", want, got, err)
	}
	for n := range p[:headSize+len(want.a)] {
		if _, err := parse(p[:n]); err == nil {
			t.Errorf("%d bytes of it are a request", n)
		}
	}
}

func FuzzParse(f *testing.F) {
	p, _ := (&request{verb: verbOpen, a: "name"}).bytes()
	f.Add(p)
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0xff}, headSize))
	f.Fuzz(func(t *testing.T, p []byte) {
		r, err := parse(p)
		if err == nil && len(r.a)+len(r.b) != len(p)-headSize {
			t.Errorf("%d bytes gave names of %d and %d", len(p), len(r.a), len(r.b))
		}
	})
}

// Where nobody entered a sandbox, the functions are the system calls alone.
func TestOutsideASandbox(t *testing.T) {
	home := t.TempDir()
	at := dir(t, home)
	if err := errors.Join(Grant(home, true), MkdirAll(filepath.Join(home, "a/b"), 0o700), Mkdirat(at, "c", 0o700)); err != nil {
		t.Fatal(err)
	}
	fd, err := Openat(at, "file", unix.O_CREAT|unix.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	_ = unix.Close(fd)
	if err := errors.Join(Linkat(at, "file", at, "second"), Renameat2(at, "second", at, "third", 0), Unlinkat(at, "file", 0)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(home, "third")); err != nil {
		t.Error(err)
	}
	if err := RemoveAll(at, "a"); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("RemoveAll without a broker: %v", err)
	}
	if Broker() {
		t.Error("a test is the broker")
	}
}

// What a file costs that the broker opens, and the same file opened by the process itself.
func BenchmarkOpen(b *testing.B) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		b.Fatal(err)
	}
	s := newSandbox(pair[0])
	defer s.shut()
	home := b.TempDir()
	go (&broker{grants: map[string]bool{home: false}}).serve(pair[1]) // ends with s
	if err := os.WriteFile(filepath.Join(home, "file"), nil, 0o600); err != nil {
		b.Fatal(err)
	}
	at, err := unix.Open(home, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = unix.Close(at) }()
	for name, open := range map[string]func() (int, error){
		"broker": func() (int, error) { return s.ask(request{verb: verbOpen, a: "file", dirs: []int{at}}) },
		"itself": func() (int, error) { return unix.Openat(at, "file", unix.O_RDONLY|unix.O_CLOEXEC, 0) },
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				fd, err := open()
				if err != nil {
					b.Fatal(err)
				}
				_ = unix.Close(fd)
			}
		})
	}
}
