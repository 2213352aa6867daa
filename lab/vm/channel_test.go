package vm

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestCopyUntilMarker(t *testing.T) {
	const token = "TOKEN"
	tests := []struct {
		name, stream, output string
		status               int
	}{
		{"nothing printed", "\x00TOKEN 0\n", "", 0},
		{"lines", "one\ntwo\n\x00TOKEN 3\n", "one\ntwo\n", 3},
		{"no newline before", "one\x00TOKEN 127\n", "one", 127},
		{"terminal", "one\r\n\x00TOKEN 5\r\n", "one\r\n", 5},
		{"NULs in the output", "a\x00b\x00TOKE\x00\x00TOKEN 0\n", "a\x00b\x00TOKE\x00", 0},
		{"other token", "\x00OTHER 9\n\x00TOKEN 1\n", "\x00OTHER 9\n", 1},
	}
	for _, tt := range tests {
		for how, reader := range map[string]func(io.Reader) io.Reader{
			"whole": func(r io.Reader) io.Reader { return r }, "bytewise": iotest.OneByteReader, "halves": iotest.HalfReader,
		} {
			t.Run(tt.name+" "+how, func(t *testing.T) {
				var output bytes.Buffer
				status, err := copyUntilMarker(&output, reader(strings.NewReader(tt.stream)), token)
				if err != nil || status != tt.status || output.String() != tt.output {
					t.Fatalf("status %d, error %v, output %q", status, err, output.String())
				}
			})
		}
	}
}

// TestCopyAtOnce checks that a line is written before the next one comes.
func TestCopyAtOnce(t *testing.T) {
	guest, host := io.Pipe()
	shown, screen := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		_, err := copyUntilMarker(screen, guest, "TOKEN")
		ended <- err
	}()
	for _, line := range []string{"one\n", "two\n"} {
		if _, err := io.WriteString(host, line); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(line))
		if _, err := io.ReadFull(shown, got); err != nil || string(got) != line {
			t.Fatalf("%q, %v", got, err)
		}
	}
	host.Close()
	if err := <-ended; !errors.Is(err, io.EOF) {
		t.Fatalf("guest that ends without a status: %v", err)
	}
}

func TestCopyWriteError(t *testing.T) {
	_, err := copyUntilMarker(failingWriter{}, strings.NewReader("one\n\x00TOKEN 0\n"), "TOKEN")
	if !errors.Is(err, errWrite) {
		t.Fatal(err)
	}
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestScript(t *testing.T) {
	text, err := Command{Args: []string{"printf", "it's\n$HOME"}, Env: []string{"A=b c'd"}, Dir: "/a b"}.script()
	if err != nil {
		t.Fatal(err)
	}
	want := "export A='b c'\\''d'\ncd '/a b' || exit 126\nexec 'printf' 'it'\\''s\n$HOME'\n"
	if text != want {
		t.Fatalf("got %q", text)
	}
	for _, c := range []Command{{}, {Args: []string{"true"}, Env: []string{"A"}}} {
		if _, err := c.script(); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
}

func TestHiddenFolders(t *testing.T) {
	got := hidden([]string{"/work", "/tmp/b", "/run/c", "/tmp/b", "/tmp/b/d", "/home/tmp"})
	if strings.Join(got, " ") != "/run/c /tmp/b /tmp/b/d" {
		t.Fatal(got)
	}
}
