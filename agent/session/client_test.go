package session

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"sync/atomic"
	"testing"
)

// everyClient is each way in which this device asks another one.
func everyClient(t *testing.T, a *device, b *device) map[string]*http.Client {
	t.Helper()
	ch, err := a.Open(t.Context(), b.id)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ch.Close)
	return map[string]*http.Client{"control": a.Control(b.id), "bulk": a.Bulk(b.id), "of its own": ch.Client}
}

// A device that answers with a redirect leads an ordinary client elsewhere, and none of ours.
func TestRedirectsAreRefused(t *testing.T) {
	var followed atomic.Bool
	redirect := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/there" {
			followed.Store(true)
			return
		}
		http.Redirect(w, r, "/v1/there", http.StatusTemporaryRedirect)
	})
	plain := httptest.NewServer(redirect)
	defer plain.Close()
	resp, err := plain.Client().Get(plain.URL + "/v1/any")
	if err != nil || !followed.Swap(false) {
		t.Fatalf("an ordinary client does not follow it either (%v): this shows nothing", err)
	}
	_ = resp.Body.Close()
	a, b := friends(t, func(c *Config) { c.Handler = redirect })
	for name, client := range everyClient(t, a, b) {
		if _, _, err := get(t, client, "/v1/any"); !errors.Is(err, ErrRedirect) || followed.Load() {
			t.Errorf("%s: %v, followed %v", name, err, followed.Load())
		}
	}
}

// Settings of a proxy lead an ordinary client to it, and none of ours. They are read once in a process, so this is a test in one
// of its own.
func TestProxySettingsAreIgnored(t *testing.T) {
	const child = "NIGH_TEST_PROXY"
	if os.Getenv(child) == "" {
		proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
		defer proxy.Close()
		cmd := exec.Command(os.Args[0], "-test.run=^TestProxySettingsAreIgnored$", "-test.v")
		cmd.Env = append(os.Environ(), child+"="+proxy.URL)
		for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"} {
			cmd.Env = append(cmd.Env, name+"="+proxy.URL)
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	resp, err := http.Get("http://nigh.invalid/v1/any")
	if err != nil || resp.StatusCode != http.StatusTeapot {
		t.Fatalf("an ordinary client does not ask the proxy either (%v): this shows nothing", err)
	}
	_ = resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	a, b := friends(t)
	for name, client := range everyClient(t, a, b) {
		t.Run(name, func(t *testing.T) { mustGet(t, client, "/v1/any") })
	}
}

// What is sent compressed, an ordinary client makes large; none of ours unpacks anything, whatever the headers say.
func TestNothingIsUnpacked(t *testing.T) {
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	for range 4 {
		if _, err := z.Write(make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	packed := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(bomb.Bytes())
	})
	plain := httptest.NewServer(packed)
	defer plain.Close()
	read := func(client *http.Client, url string) (int64, error) {
		resp, err := client.Get(url)
		if err != nil {
			return 0, err
		}
		defer resp.Body.Close()
		return io.Copy(io.Discard, resp.Body)
	}
	if n, err := read(plain.Client(), plain.URL); n != 4<<20 {
		t.Fatalf("an ordinary client made %d bytes of %d (%v): this shows nothing", n, bomb.Len(), err)
	}
	a, b := friends(t, func(c *Config) { c.Handler = packed })
	for name, client := range everyClient(t, a, b) {
		if n, err := read(client, "http://"+Host+"/v1/any"); n != int64(bomb.Len()) || err != nil {
			t.Errorf("%s: %d bytes of %d sent (%v)", name, n, bomb.Len(), err)
		}
	}
	// Nor does what serves: a body that says to be packed is as long as it is.
	read2 := make(chan int64, 1)
	c, d := friends(t, func(c *Config) {
		c.Handler = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			n, _ := io.Copy(io.Discard, r.Body)
			read2 <- n
		})
	})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+Host+"/v1/any", bytes.NewReader(bomb.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Encoding", "gzip")
	resp, err := c.Control(d.id).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if n := <-read2; n != int64(bomb.Len()) {
		t.Errorf("%d bytes of a request of %d were read", n, bomb.Len())
	}
}
