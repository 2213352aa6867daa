package radio

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// AccessPointConfig is an access point of a WPA2 network.
type AccessPointConfig struct {
	SSID       string       // at most 32 bytes
	Passphrase string       // 8 to 63 characters
	Frequency  int          // MHz; 0 = 2437, channel 6
	Address    netip.Prefix // of its interface; zero = none
	Country    string       // two letters; on 5 GHz an access point needs one
}

// AccessPoint is hostapd on a node's radio.
type AccessPoint struct {
	node    *Node
	process *process
	control string

	mu      sync.Mutex
	changed chan struct{} // closed and replaced with every line of the log; guarded by mu
	said    []string      // the log; guarded by mu
	ended   bool          // guarded by mu
}

// Serve makes an access point of a node, whose wpa_supplicant it ends for good. It returns when stations can join. It ends
// with the bed, or by Stop.
func (n *Node) Serve(ctx context.Context, c AccessPointConfig) (*AccessPoint, error) {
	ap, err := n.serve(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("radio: access point on %s: %w", n.Name, err)
	}
	return ap, nil
}

func (n *Node) serve(ctx context.Context, c AccessPointConfig) (*AccessPoint, error) {
	if n.system {
		return nil, errors.New("the system's node has the system's wpa_supplicant")
	}
	if c.Frequency == 0 {
		c.Frequency = 2437
	}
	mode, number := channel(c.Frequency)
	if len(c.Passphrase) < 8 || len(c.SSID) > 32 || number == 0 {
		return nil, fmt.Errorf("no usable configuration: %q on %d MHz", c.SSID, c.Frequency)
	}
	if n.SupplicantPID() != 0 {
		if err := n.KillSupplicant(); err != nil {
			return nil, err
		}
	}
	if err := n.address(ctx, c.Address); err != nil {
		return nil, err
	}
	ap := &AccessPoint{node: n, control: filepath.Join(n.folder, "hostapd"), changed: make(chan struct{})}
	text := fmt.Sprintf("interface=%s\ndriver=nl80211\nctrl_interface=%s\nssid2=%x\nhw_mode=%s\nchannel=%d\n"+
		"wpa=2\nwpa_key_mgmt=WPA-PSK\nrsn_pairwise=CCMP\nwpa_passphrase=%s\n",
		n.Ifname, ap.control, c.SSID, mode, number, c.Passphrase)
	if c.Country != "" {
		text += "country_code=" + c.Country + "\nieee80211d=1\n"
	}
	config := filepath.Join(n.folder, "hostapd.conf")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	// Its log is line by line only when it goes to a file of its own, which may be a pipe.
	lines, child, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd := n.Command(context.Background(), "hostapd", "-t", "-f", "/proc/self/fd/3", config)
	cmd.ExtraFiles = []*os.File{child}
	ap.process, err = start(cmd)
	child.Close()
	if err != nil {
		lines.Close()
		return nil, err
	}
	n.mu.Lock()
	n.accessPoint = ap
	n.mu.Unlock()
	go ap.read(lines)
	ctx, cancel := context.WithTimeoutCause(ctx, readyWait, fmt.Errorf("not up within %v", readyWait))
	defer cancel()
	if err := ap.await(ctx, 0, "AP-ENABLED"); err != nil {
		return nil, errors.Join(err, ap.Stop())
	}
	return ap, nil
}

// channel gives hostapd's mode and the channel's number; 0 when it knows of none.
func channel(frequency int) (mode string, number int) {
	switch {
	case frequency == 2484:
		return "b", 14
	case frequency >= 2412 && frequency <= 2472 && (frequency-2407)%5 == 0:
		return "g", (frequency - 2407) / 5
	case frequency >= 5180 && frequency <= 5885 && frequency%5 == 0:
		return "a", (frequency - 5000) / 5
	}
	return "", 0
}

func (ap *AccessPoint) read(lines io.ReadCloser) {
	defer lines.Close()
	for s := bufio.NewScanner(lines); s.Scan(); {
		ap.mu.Lock()
		ap.said = append(ap.said, s.Text())
		close(ap.changed)
		ap.changed = make(chan struct{})
		ap.mu.Unlock()
	}
	ap.mu.Lock()
	defer ap.mu.Unlock()
	ap.ended = true
	close(ap.changed)
}

func (ap *AccessPoint) mark() int {
	ap.mu.Lock()
	defer ap.mu.Unlock()
	return len(ap.said)
}

// await waits for a line of the log, from line mark on, that contains text.
func (ap *AccessPoint) await(ctx context.Context, mark int, text string) error {
	for {
		ap.mu.Lock()
		said, changed, ended := ap.said[mark:], ap.changed, ap.ended
		ap.mu.Unlock()
		for _, line := range said {
			if strings.Contains(line, text) {
				return nil
			}
		}
		if ended {
			return fmt.Errorf("hostapd ended:\n%s", strings.Join(said, "\n"))
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("no %s: %w:\n%s", text, context.Cause(ctx), strings.Join(said, "\n"))
		}
	}
}

// Log is what hostapd said so far.
func (ap *AccessPoint) Log() string {
	ap.mu.Lock()
	defer ap.mu.Unlock()
	return strings.Join(ap.said, "\n")
}

// Move has the access point announce a change to another channel, with its stations, and returns when it is there.
func (ap *AccessPoint) Move(ctx context.Context, frequency int) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyWait, fmt.Errorf("not there within %v", readyWait))
	defer cancel()
	mark := ap.mark()
	if err := ap.node.control(ctx, filepath.Join(ap.control, ap.node.Ifname), fmt.Sprintf("CHAN_SWITCH 5 %d", frequency)); err != nil {
		return fmt.Errorf("radio: move access point: %w", err)
	}
	if err := ap.await(ctx, mark, fmt.Sprintf("AP-CSA-FINISHED freq=%d", frequency)); err != nil {
		return fmt.Errorf("radio: move access point: %w", err)
	}
	return nil
}

// Stop ends the access point; its stations are told. It may be called twice.
func (ap *AccessPoint) Stop() error {
	if err := ap.process.cmd.Process.Signal(unix.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("radio: stop access point: %w", err)
	}
	<-ap.process.exited
	return nil
}
