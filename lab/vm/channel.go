package vm

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/muesli/cancelreader"
	"golang.org/x/term"
)

// errWrite says that the reader of a command's output is gone.
var errWrite = errors.New("output cannot be written")

// copyUntilMarker copies a command's output up to the marker NUL TOKEN SPACE STATUS NEWLINE and returns the status. What it
// copies it copies at once: only bytes that may begin the marker are held back.
func copyUntilMarker(to io.Writer, from io.Reader, token string) (int, error) {
	marker := []byte("\x00" + token + " ")
	var held []byte
	chunk := make([]byte, 32<<10)
	for {
		n, err := from.Read(chunk)
		held = append(held, chunk[:n]...)
		if at := bytes.Index(held, marker); at >= 0 {
			if _, werr := to.Write(held[:at]); werr != nil {
				return 0, fmt.Errorf("%w: %w", errWrite, werr)
			}
			rest := bufio.NewReader(io.MultiReader(bytes.NewReader(held[at+len(marker):]), from))
			line, err := rest.ReadString('\n')
			if err != nil {
				return 0, fmt.Errorf("status: %w", err)
			}
			status, err := strconv.Atoi(strings.TrimSpace(line))
			if err != nil {
				return 0, fmt.Errorf("status: %w", err)
			}
			return status, nil
		}
		ready := len(held)
		if nul := bytes.LastIndexByte(held, 0); nul >= 0 && bytes.HasPrefix(marker, held[nul:]) {
			ready = nul
		}
		if ready > 0 {
			if _, werr := to.Write(held[:ready]); werr != nil {
				return 0, fmt.Errorf("%w: %w", errWrite, werr)
			}
			held = append(held[:0], held[ready:]...)
		}
		if err != nil {
			return 0, err
		}
	}
}

// consoleTail keeps the last lines of the guest's console.
type consoleTail struct {
	conn net.Conn
	copy io.Writer

	mu    sync.Mutex
	lines []string // at most consoleLines
}

// read runs until the connection ends.
func (t *consoleTail) read() {
	var from io.Reader = t.conn
	if t.copy != nil {
		from = io.TeeReader(t.conn, t.copy)
	}
	lines := bufio.NewReaderSize(from, 4096)
	for {
		line, err := lines.ReadSlice('\n')
		if text := strings.TrimRight(string(line), "\r\n"); text != "" {
			t.mu.Lock()
			t.lines = append(t.lines, text)
			if len(t.lines) > consoleLines {
				t.lines = t.lines[1:]
			}
			t.mu.Unlock()
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
	}
}

// String gives the lines kept.
func (t *consoleTail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(t.lines, "\n")
}

// runTerminal runs the command asked for on the guest's terminal, attached to ours, which is raw meanwhile.
func (m *Machine) runTerminal(ctx context.Context) (status int, err error) {
	stdin, stdout := int(os.Stdin.Fd()), int(os.Stdout.Fd())
	columns, rows, err := term.GetSize(stdout)
	if err != nil {
		return 0, fmt.Errorf("vm: standard output is not a terminal: %w", err)
	}
	keys, err := cancelreader.NewReader(os.Stdin)
	if err != nil {
		return 0, fmt.Errorf("vm: terminal: %w", err)
	}
	old, err := term.MakeRaw(stdin)
	if err != nil {
		return 0, fmt.Errorf("vm: standard input is not a terminal: %w", err)
	}
	defer func() {
		if rerr := term.Restore(stdin, old); rerr != nil && err == nil {
			err = fmt.Errorf("vm: terminal: %w", rerr)
		}
	}()
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, syscall.SIGWINCH)
	defer signal.Stop(resized)
	ended := make(chan struct{})
	var work sync.WaitGroup
	// A guest that is gone ends both; the exchange says so.
	work.Go(func() { _, _ = io.Copy(m.terminal, keys) })
	work.Go(func() {
		for {
			select {
			case <-ended:
				return
			case <-resized:
			}
			if columns, rows, err := term.GetSize(stdout); err == nil {
				if _, err := fmt.Fprintf(m.size, "%d %d\n", rows, columns); err != nil {
					return
				}
			}
		}
	})
	defer func() {
		close(ended)
		keys.Cancel()
		work.Wait()
		keys.Close()
	}()
	return m.exchange(ctx, fmt.Sprintf("%d 1 %d %d\n", m.number, rows, columns), m.terminal, os.Stdout)
}
