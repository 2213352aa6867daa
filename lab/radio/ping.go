package radio

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
)

// lastAnswer is how long Stop waits for answers that are on their way.
const lastAnswer = 2 * time.Second

// Ping asks a host for an echo again and again, as ping(8) does, and counts.
type Ping struct {
	conn  *icmp.PacketConn
	to    net.IPAddr
	every time.Duration
	stop  chan struct{}
	done  sync.WaitGroup

	mu      sync.Mutex
	sent    []time.Time         // guarded by mu
	asked   chan struct{}       // closed and replaced with every one that is sent; guarded by mu
	open    map[uint16]struct{} // asked and not answered; guarded by mu
	settled chan struct{}       // closed by an answer when none is open; guarded by mu
	slowest time.Duration       // guarded by mu
	err     error               // guarded by mu
}

// PingCount is the result of a Ping.
type PingCount struct {
	Sent, Lost int
	Slowest    time.Duration // of all answers
}

// String returns the numbers for a log.
func (c PingCount) String() string {
	return fmt.Sprintf("%d pings, %d lost, slowest %v", c.Sent, c.Lost, c.Slowest.Round(time.Millisecond))
}

// Ping starts to ask to for an echo from inside a node, every time that every has passed. Stop must be called.
func (n *Node) Ping(to netip.Addr, every time.Duration) (*Ping, error) {
	p := &Ping{to: net.IPAddr{IP: to.AsSlice()}, every: every, stop: make(chan struct{}), open: map[uint16]struct{}{}, asked: make(chan struct{}), settled: make(chan struct{})}
	err := n.Do(func() (err error) { p.conn, err = icmp.ListenPacket("ip4:icmp", "0.0.0.0"); return err })
	if err != nil {
		return nil, fmt.Errorf("radio: ping from %s: %w", n.Name, err)
	}
	p.done.Go(p.receive)
	p.done.Go(p.send)
	return p, nil
}

func (p *Ping) send() {
	tick := time.NewTicker(p.every)
	defer tick.Stop()
	for seq := uint16(0); ; seq++ {
		m := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: os.Getpid() & 0xffff, Seq: int(seq), Data: []byte("nigh lab")}}
		packet, err := m.Marshal(nil)
		if err == nil {
			p.mu.Lock()
			p.sent = append(p.sent, time.Now())
			p.open[seq] = struct{}{}
			close(p.asked)
			p.asked = make(chan struct{})
			p.mu.Unlock()
			// What cannot be sent, because the link is down, is lost.
			_, err = p.conn.WriteTo(packet, &p.to)
		}
		if err != nil {
			p.mu.Lock()
			p.err = err
			p.mu.Unlock()
		}
		select {
		case <-tick.C:
		case <-p.stop:
			return
		}
	}
}

func (p *Ping) receive() {
	packet := make([]byte, 1500)
	for {
		m, _, err := p.conn.ReadFrom(packet)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		answer, err := icmp.ParseMessage(1, packet[:m])
		if err != nil || answer.Type != ipv4.ICMPTypeEchoReply {
			continue
		}
		if echo, ok := answer.Body.(*icmp.Echo); ok && echo.ID == os.Getpid()&0xffff {
			p.answered(uint16(echo.Seq))
		}
	}
}

func (p *Ping) answered(seq uint16) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, open := p.open[seq]; !open {
		return
	}
	delete(p.open, seq)
	p.slowest = max(p.slowest, time.Since(p.sent[seq]))
	if len(p.open) == 0 {
		close(p.settled)
		p.settled = make(chan struct{})
	}
}

// More returns when n more pings have been sent.
func (p *Ping) More(ctx context.Context, n int) error {
	p.mu.Lock()
	want := len(p.sent) + n
	p.mu.Unlock()
	for {
		p.mu.Lock()
		sent, asked := len(p.sent), p.asked
		p.mu.Unlock()
		if sent >= want {
			return nil
		}
		select {
		case <-asked:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Stop ends the asking, waits for the last answers and returns the count, with the last error of sending.
func (p *Ping) Stop() (PingCount, error) {
	close(p.stop)
	wait := time.NewTimer(lastAnswer)
	defer wait.Stop()
	p.mu.Lock()
	open, settled := len(p.open), p.settled
	p.mu.Unlock()
	if open > 0 {
		select {
		case <-settled:
		case <-wait.C:
		}
	}
	_ = p.conn.Close() // which ends receive
	p.done.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	return PingCount{Sent: len(p.sent), Lost: len(p.open), Slowest: p.slowest}, p.err
}
