package session

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"nigh/agent/trust"
)

// benchBytes is what each way moves in one round.
const benchBytes = 256 << 20

// BenchmarkBulk moves the same bytes over plain TCP, over crypto/tls as it is, and
// as a bulk request of 16 MiB ranges on two connections, in turns, and reports the
// rates and their ratios. Both ends share this machine's processors.
func BenchmarkBulk(b *testing.B) {
	server := newDevice(b, "127.0.0.1:0", func(c *Config) {
		c.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", itoa(16<<20))
			_, _ = io.CopyN(w, zeros{}, 16<<20)
		})
	})
	client := newDevice(b, "127.0.0.1:0")
	server.set(client.id, trust.Trusted)
	client.at(server.id, server.lan())

	var tcp, raw, bulk time.Duration
	for b.Loop() {
		tcp += pump(b, nil)
		raw += pump(b, tlsConfig(server.cfg.Identity, []string{protoDirect}, server.accepted, nil))
		bulk += ranges(b, client.Bulk(server.id))
	}
	rate := func(d time.Duration) float64 { return float64(b.N) * benchBytes / d.Seconds() / 1e6 }
	b.ReportMetric(rate(tcp), "tcp-MB/s")
	b.ReportMetric(rate(raw), "tls-MB/s")
	b.ReportMetric(rate(bulk), "bulk-MB/s")
	b.ReportMetric(float64(tcp)/float64(bulk), "bulk/tcp")
	b.ReportMetric(float64(raw)/float64(bulk), "bulk/tls")
}

// pump writes benchBytes in pieces of 256 KiB on one connection.
func pump(b *testing.B, cfg *tls.Config) time.Duration {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		if cfg != nil {
			server := cfg.Clone()
			server.ClientAuth = tls.NoClientCert
			server.VerifyConnection = nil
			c = tls.Server(c, server)
		}
		buf := make([]byte, 256<<10)
		for range benchBytes / len(buf) {
			if _, err := c.Write(buf); err != nil {
				return
			}
		}
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	if cfg != nil {
		client := cfg.Clone()
		client.VerifyConnection = nil
		c = tls.Client(c, client)
	}
	began := time.Now()
	drain(b, c, benchBytes)
	return time.Since(began)
}

// drain reads n bytes as a receiver would: into pieces of 256 KiB.
func drain(b *testing.B, r io.Reader, n int64) {
	buf := make([]byte, 256<<10)
	for n > 0 {
		m, err := io.ReadFull(r, buf[:min(n, int64(len(buf)))])
		n -= int64(m)
		if err != nil {
			b.Error(err)
			return
		}
	}
}

func ranges(b *testing.B, client *http.Client) time.Duration {
	began := time.Now()
	done := make(chan struct{})
	const each = benchBytes / 2
	for range 2 {
		go func() {
			defer func() { done <- struct{}{} }()
			for range each / (16 << 20) {
				r, _ := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://nigh/v1/b", nil)
				answer, err := client.Do(r)
				if err != nil {
					b.Error(err)
					return
				}
				drain(b, answer.Body, 16<<20)
				_ = answer.Body.Close()
			}
		}()
	}
	<-done
	<-done
	return time.Since(began)
}
