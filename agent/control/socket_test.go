package control_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"nigh/agent/control"
)

func code(err error) string {
	e, ok := errors.AsType[*control.Error](err)
	if !ok {
		return fmt.Sprint(err)
	}
	return e.Code
}

func TestListen(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o022))
	dir := folder(t)
	path := filepath.Join(dir, "new", "nigh", "agent.sock")
	ln, err := control.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]fs.FileMode{path: 0o600, filepath.Dir(path): 0o700, filepath.Join(dir, "new"): 0o755} {
		info, err := os.Stat(name)
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, %v; want %v", name, info.Mode(), err, want)
		}
	}

	if _, err := control.Listen(path); code(err) != control.CodeBusy {
		t.Errorf("a second agent on a live socket: %v", err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the live socket is gone: %v", err)
	}

	// An agent that was killed leaves its socket behind.
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	ln.Close()
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("no stale socket to test with: %v", err)
	}
	ln, err = control.Listen(path)
	if err != nil {
		t.Fatalf("stale socket: %v", err)
	}
	ln.Close()
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket stays after Close: %v", err)
	}

	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := control.Listen(file); code(err) != control.CodeUsage {
		t.Errorf("on a file: %v", err)
	}
	if got, err := os.ReadFile(file); string(got) != "precious" {
		t.Errorf("the file in the socket's place: %q, %v", got, err)
	}

	if _, err := control.Listen(filepath.Join(dir, strings.Repeat("x", 104))); code(err) != control.CodeUsage {
		t.Errorf("too long: %v", err)
	}

	open := filepath.Join(dir, "open")
	if err := os.Mkdir(open, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := control.Listen(filepath.Join(open, "agent.sock")); code(err) != control.CodePermission {
		t.Errorf("in a folder that others may write: %v", err)
	}
}

// Two agents that start at once on a stale socket: exactly one gets it.
func TestListenRace(t *testing.T) {
	path := filepath.Join(folder(t), "agent.sock")
	stale, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	stale.(*net.UnixListener).SetUnlinkOnClose(false)
	stale.Close()
	type result struct {
		ln  net.Listener
		err error
	}
	const n = 8
	results := make(chan result, n)
	for range n {
		go func() {
			ln, err := control.Listen(path)
			results <- result{ln, err}
		}()
	}
	var won []net.Listener
	for range n {
		if r := <-results; r.err == nil {
			won = append(won, r.ln)
		} else if code(r.err) != control.CodeBusy {
			t.Error(r.err)
		}
	}
	if len(won) != 1 {
		t.Errorf("%d agents listen at one path", len(won))
	}
	for _, ln := range won {
		ln.Close()
	}
}

func TestSocketPaths(t *testing.T) {
	run := folder(t)
	t.Setenv("NIGH_SOCKET", "")
	t.Setenv("SUDO_USER", "")
	t.Setenv("XDG_RUNTIME_DIR", run)
	want := filepath.Join(run, "nigh", "agent.sock")
	if got := control.SocketPath(); got != want {
		t.Errorf("SocketPath() = %s, want %s", got, want)
	}
	ln, err := control.Listen(want)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if got := control.FindSocket(); got != want {
		t.Errorf("FindSocket() = %s, want the one that answers, %s", got, want)
	}
	t.Setenv("NIGH_SOCKET", "/nowhere/x.sock")
	if got := control.FindSocket(); got != "/nowhere/x.sock" {
		t.Errorf("FindSocket() = %s with NIGH_SOCKET", got)
	}
	t.Setenv("NIGH_SOCKET", "")
	// Nobody answers there any more: root finds the agent of who called sudo.
	if os.Geteuid() == 0 {
		ln.Close()
		if _, err := os.Stat("/run/nigh"); errors.Is(err, fs.ErrNotExist) {
			defer os.Remove("/run/nigh")
		}
		user := fmt.Sprintf("nigh-test-%d", os.Getpid())
		service, err := control.Listen(filepath.Join("/run/nigh", user, "agent.sock"))
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(filepath.Join("/run/nigh", user))
		defer service.Close()
		t.Setenv("SUDO_USER", user)
		if got := control.FindSocket(); got != service.Addr().String() {
			t.Errorf("FindSocket() = %s under sudo, want %s", got, service.Addr())
		}
		t.Setenv("SUDO_USER", "")
	}
	t.Setenv("XDG_RUNTIME_DIR", "relative")
	if got := control.SocketPath(); !strings.HasPrefix(got, "/run/nigh/") || !strings.HasSuffix(got, "/agent.sock") {
		t.Errorf("SocketPath() = %s without a runtime folder", got)
	}
}

func TestClientDialErrors(t *testing.T) {
	dir := folder(t)
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	stale, err := net.Listen("unix", filepath.Join(dir, "stale"))
	if err != nil {
		t.Fatal(err)
	}
	stale.(*net.UnixListener).SetUnlinkOnClose(false)
	stale.Close()
	for path, want := range map[string]string{
		"missing":                control.CodeNoAgent,
		"stale":                  control.CodeNoAgent,
		"file":                   control.CodeNoAgent,
		"file/x":                 control.CodeNoAgent,
		strings.Repeat("x", 200): control.CodeUsage,
	} {
		c := &control.Client{Socket: filepath.Join(dir, path)}
		if _, err := c.Status(deadline(t)); code(err) != want {
			t.Errorf("%.20s: %v, want %s", path, err, want)
		}
	}
}

// raw sends text to the socket as it is and returns the answer.
func raw(t *testing.T, socket, text string) (int, string) {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go func() { _, _ = io.WriteString(conn, text) }()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestHostileRequests(t *testing.T) {
	b := &backend{}
	socket, _ := serve(t, b)
	post := func(body string) string {
		return fmt.Sprintf("POST /v1/find HTTP/1.1\r\nHost: nigh\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	}
	for _, tt := range []struct {
		name, request string
		status        int
		code          string
	}{
		{"curl", "GET /v1/peers HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 200, `"peers":[{`},
		{"origin", "GET /v1/peers HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n\r\n", 403, control.CodePermission},
		{"null origin", "GET /v1/peers HTTP/1.1\r\nHost: localhost\r\nOrigin: null\r\n\r\n", 403, control.CodePermission},
		{"referer", "GET /v1/peers HTTP/1.1\r\nHost: localhost\r\nReferer: http://evil.example/\r\n\r\n", 403, control.CodePermission},
		{"rebinding", "GET /v1/peers HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403, control.CodePermission},
		{"host with port", "GET /v1/peers HTTP/1.1\r\nHost: localhost:7421\r\n\r\n", 403, control.CodePermission},
		{"no host", "GET /v1/peers HTTP/1.0\r\n\r\n", 403, control.CodePermission},
		{"metrics of a program without", "GET /metrics HTTP/1.1\r\nHost: nigh\r\nConnection: close\r\n\r\n", 404, "make build TAGS=metrics"},
		{"unknown route", "GET /v2/peers HTTP/1.1\r\nHost: nigh\r\nConnection: close\r\n\r\n", 404, control.CodeNotFound},
		{"wrong method", "PUT /v1/peers HTTP/1.1\r\nHost: nigh\r\nConnection: close\r\n\r\n", 404, control.CodeNotFound},
		{"messages", "GET /v1/messages?since=3&oldest=true HTTP/1.1\r\nHost: nigh\r\nConnection: close\r\n\r\n", 200, `"messages":[{`},
		{"unknown parameter", "GET /v1/messages?loudly=1 HTTP/1.1\r\nHost: nigh\r\nConnection: close\r\n\r\n", 400, control.CodeUsage},
		{"no number", "GET /v1/messages?since=-1 HTTP/1.1\r\nHost: nigh\r\nConnection: close\r\n\r\n", 400, control.CodeUsage},
		{"no truth", "GET /v1/messages?waiting=perhaps HTTP/1.1\r\nHost: nigh\r\nConnection: close\r\n\r\n", 400, control.CodeUsage},
		{"long search", "GET /v1/messages?search=" + strings.Repeat("x", 2000) + " HTTP/1.1\r\nHost: nigh\r\nConnection: close\r\n\r\n", 400, control.CodeUsage},
		{"long id", "POST /v1/inbox/" + strings.Repeat("x", 300) + "/refuse HTTP/1.1\r\nHost: nigh\r\nConnection: close\r\n\r\n", 400, control.CodeUsage},
		{"no body", post(""), 200, "{}"},
		{"not JSON", post("seconds=1"), 400, control.CodeUsage},
		{"wrong type", post(`{"seconds":"1"}`), 400, control.CodeUsage},
		{"unknown field", post(`{"seconds":1,"loudly":true}`), 400, control.CodeUsage},
		{"two values", post(`{"seconds":1}{"seconds":2}`), 400, control.CodeUsage},
		{"half a value", post(`{"seconds":`), 400, control.CodeUsage},
		{"oversize", post(`{"seconds":1` + strings.Repeat(" ", 5<<20) + `}`), 400, control.CodeUsage},
		{"deep", post(strings.Repeat("[", 1<<20)), 400, control.CodeUsage},
	} {
		b.asked = nil
		status, body := raw(t, socket, tt.request)
		if status != tt.status || !strings.Contains(body, tt.code) {
			t.Errorf("%s: %d %.200s; want %d %s", tt.name, status, body, tt.status, tt.code)
		}
		if asked := b.last(); status != 200 && asked != nil {
			t.Errorf("%s reached the backend: %v", tt.name, asked)
		}
	}
}

// A connection that is not a Unix socket's has no credentials and is refused.
func TestNoCredentials(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, &backend{}, ln)
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /v1/peers HTTP/1.1\r\nHost: nigh\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("over TCP: %s", resp.Status)
	}
}

// foreignMain is the test binary run as another user. It listens at socket until its
// standard input ends, or asks the agent there by the client and by hand, and prints
// what it got.
func foreignMain(socket string) {
	if os.Getenv("NIGH_TEST_LISTEN") != "" {
		ln, err := net.Listen("unix", socket)
		if err == nil {
			err = os.Chmod(socket, 0o666)
		}
		fmt.Println("listening:", err)
		_, _ = io.Copy(io.Discard, os.Stdin)
		ln.Close()
		return
	}
	_, err := (&control.Client{Socket: socket}).Status(context.Background())
	fmt.Println("client:", code(err))
	conn, err := net.Dial("unix", socket)
	if err != nil {
		fmt.Println("raw:", err)
		return
	}
	_, _ = io.WriteString(conn, "GET /v1/status HTTP/1.1\r\nHost: nigh\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		fmt.Println("raw:", err)
		return
	}
	body, _ := io.ReadAll(resp.Body)
	fmt.Println("raw:", resp.StatusCode, string(body))
}

// foreigner returns a command that runs the test binary as another user.
func foreigner(t *testing.T, uid uint32, env ...string) *exec.Cmd {
	t.Helper()
	// The test binary itself lies in a folder that only root may enter.
	dir := folder(t)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	binary, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	child := filepath.Join(dir, "child")
	if err := os.WriteFile(child, binary, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(deadline(t), child)
	cmd.Env = append(os.Environ(), env...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	return cmd
}

// A face does not speak to what another user put in the agent's place.
func TestForeignAgent(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: to run children as other users")
	}
	dir := folder(t)
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "agent.sock")
	agent := foreigner(t, 65533, "NIGH_TEST_FOREIGN="+socket, "NIGH_TEST_LISTEN=1")
	hold, err := agent.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	said, err := agent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(said).ReadString('\n'); line != "listening: <nil>\n" {
		t.Fatalf("%q, %v", line, err)
	}
	// By hand it would connect; only the client's question is of interest, and the
	// foreign agent answers nothing, so that the child is given up after it.
	face := foreigner(t, 65534, "NIGH_TEST_FOREIGN="+socket)
	out, err := face.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := face.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if line != "client: permission\n" {
		t.Errorf("a face of another user got %q, %v", line, err)
	}
	hold.Close()
	if err := agent.Wait(); err != nil {
		t.Error(err)
	}
	if err := face.Wait(); err != nil {
		t.Error(err)
	}
}

func TestForeignUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: to run a child as another user")
	}
	b := &backend{}
	socket, _ := serve(t, b)
	ask := func() string {
		cmd := foreigner(t, 65534, "NIGH_TEST_FOREIGN="+socket)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Run(); err != nil {
			t.Fatalf("child: %v\n%s", err, out.String())
		}
		return out.String()
	}
	chmod := func(name string, mode fs.FileMode) {
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
	}
	// The folder and the socket keep strangers out ...
	if got := ask(); !strings.Contains(got, "client: permission") || !strings.Contains(got, "permission denied") {
		t.Errorf("a foreign user at a closed socket: %s", got)
	}
	// ... and where an admin opened both, the credentials still do.
	chmod(filepath.Dir(socket), 0o755)
	chmod(socket, 0o666)
	if got := ask(); !strings.Contains(got, "client: permission") || !strings.Contains(got, `raw: 403 {"code":"permission"`) {
		t.Errorf("a foreign user at an open socket: %s", got)
	}
	if asked := b.last(); asked != nil {
		t.Errorf("a foreign user reached the backend: %v", asked)
	}
}
