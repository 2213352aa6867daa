package wpa

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"nigh/wpa/dbusapi"
)

const (
	childStart   = 10 * time.Second // for the bus to listen
	childEnd     = 3 * time.Second  // for wpa_supplicant to end after SIGTERM
	restartMin   = time.Second      // doubled with each restart that did not last
	restartMax   = time.Minute      // between two starts of our own wpa_supplicant
	restartProof = time.Minute      // what lives this long has recovered
	maxLine      = 4 << 10          // bytes of one line of a child's output
)

// privateBus lets whoever reaches the socket do everything: the socket is in a folder of ours alone, and a bus of the type
// session accepts only its own user.
const privateBus = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>%s</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
`

// privateEngine is a D-Bus bus and a wpa_supplicant of our own. Both are children that the kernel kills when this process
// ends, however it ends. A wpa_supplicant that ends is started again; when the bus ends, the Radio ends with ErrNoBus.
type privateEngine struct {
	cfg      Config
	log      *slog.Logger
	address  string
	bus      *child
	stop     context.CancelFunc
	watching sync.WaitGroup
}

func (e *privateEngine) dial(ctx context.Context, cfg Config) (supplicant, error) {
	folder := filepath.Join(cfg.Folder, "radio")
	if err := ownFolder(folder); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEngine, err)
	}
	e.cfg, e.log = cfg, cfg.Logger
	e.address = "unix:path=" + dbusapi.EscapeAddress(filepath.Join(folder, "bus"))
	api, err := e.start(ctx, folder)
	if err != nil {
		e.close()
		return nil, fmt.Errorf("%w: %w", ErrEngine, err)
	}
	return api, nil
}

func (e *privateEngine) start(ctx context.Context, folder string) (supplicant, error) {
	if err := e.startBus(ctx, folder); err != nil {
		return nil, err
	}
	// Connected before wpa_supplicant starts, so that its coming is seen.
	api, err := dialBus(ctx, e.address)
	if err != nil {
		return nil, err
	}
	config := filepath.Join(folder, "wpa_supplicant.conf")
	if err := os.WriteFile(config, e.config(), 0o600); err != nil {
		_ = api.Close() // it was never of use
		return nil, err
	}
	wpa, err := e.startSupplicant(config)
	if err != nil {
		_ = api.Close()
		return nil, err
	}
	life, stop := context.WithCancel(context.Background())
	e.stop = stop
	e.watching.Go(func() { e.watch(life, wpa, config) })
	return api, nil
}

// ownFolder makes a folder that is ours alone: who reaches the bus in it can do everything that the supplicant can.
func ownFolder(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || !ok || int(st.Uid) != os.Geteuid() || info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("the folder %s is open to others", path)
	}
	return nil
}

// startBus returns when the bus listens.
func (e *privateEngine) startBus(ctx context.Context, folder string) error {
	config := filepath.Join(folder, "bus.conf")
	if err := os.WriteFile(config, fmt.Appendf(nil, privateBus, e.address), 0o600); err != nil {
		return err
	}
	ready, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ready.Close()
	e.bus, err = e.child("dbus-daemon", write, "--config-file="+config, "--nofork", "--nopidfile", "--nosyslog", "--print-address=3")
	_ = write.Close() // the child has its own
	if err != nil {
		return err
	}
	// It prints its address once it listens; its end closes the pipe.
	if err := ready.SetReadDeadline(time.Now().Add(childStart)); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = ready.SetReadDeadline(time.Unix(1, 0)) })()
	if _, err := ready.Read(make([]byte, 1)); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("dbus-daemon does not start: %w", err)
	}
	return nil
}

func (e *privateEngine) startSupplicant(config string) (*child, error) {
	return e.child("wpa_supplicant", nil, "-u", "-c", config, "-i", e.cfg.Ifname, "-D", "nl80211")
}

// config is what wpa_supplicant reads. Everything else is set over D-Bus.
func (e *privateEngine) config() []byte {
	text := "# Written by nigh at each start.\nupdate_config=0\n"
	// For drivers that would make a new address at every start, such as brcmfmac; those of mac80211 have a lasting one and
	// ignore this. On a radio without a P2P device it would change the address of the adapter itself, which is lasting too.
	if len(e.cfg.Address) == 6 && hasP2PDevice(e.cfg.Ifname) {
		text += "p2p_device_random_mac_addr=2\np2p_device_persistent_mac_addr=" + e.cfg.Address.String() + "\n"
	}
	return []byte(text)
}

// hasP2PDevice reports whether the radio of an interface can have a P2P device of its own.
func hasP2PDevice(ifname string) bool {
	list, _ := wdevs()
	i := slices.IndexFunc(list, func(w wdev) bool { return w.Ifname == ifname })
	if i < 0 {
		return false
	}
	radios, _ := wiphys()
	return slices.ContainsFunc(radios, func(r wiphy) bool {
		return r.ID == list[i].Wiphy && slices.Contains(r.Types, unix.NL80211_IFTYPE_P2P_DEVICE)
	})
}

// watch starts wpa_supplicant again whenever it ends, until ctx does, and then ends it.
func (e *privateEngine) watch(ctx context.Context, wpa *child, config string) {
	wait := restartMin
	for {
		began := time.Now()
		select {
		case <-ctx.Done():
			wpa.end(childEnd)
			return
		case <-wpa.exited:
		}
		if time.Since(began) > restartProof {
			wait = restartMin
		}
		for {
			e.log.Warn("Own wpa_supplicant ended, starting it again", "wait", wait, "err", wpa.err)
			pause := time.NewTimer(wait)
			select {
			case <-ctx.Done():
				pause.Stop()
				return
			case <-pause.C:
			}
			wait = min(2*wait, restartMax)
			again, err := e.startSupplicant(config)
			if err == nil {
				wpa = again
				break
			}
			wpa.err = err
		}
	}
}

func (e *privateEngine) lost() <-chan struct{} { return nil }

func (e *privateEngine) close() {
	if e.stop != nil {
		e.stop()
	}
	e.watching.Wait()
	if e.bus != nil {
		e.bus.end(0)
	}
}

// child is a program that ends with this process.
type child struct {
	cmd    *exec.Cmd
	exited chan struct{} // closed when it has ended and its output is read
	err    error         // how it ended; after exited
}

// child starts a program with nothing of this process's environment. extra, if any, is its descriptor 3.
func (e *privateEngine) child(name string, extra *os.File, args ...string) (*child, error) {
	path, err := program(name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	c := &child{cmd: exec.Command(path, args...), exited: make(chan struct{})}
	c.cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	if name != "dbus-daemon" { // whose own look at users must not end up with itself
		c.cmd.Env = append(c.cmd.Env, "DBUS_SYSTEM_BUS_ADDRESS="+e.address)
	}
	if extra != nil {
		c.cmd.ExtraFiles = []*os.File{extra}
	}
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	output, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.cmd.Stderr = c.cmd.Stdout
	started := make(chan error, 1)
	go func() {
		// The kernel sends the death signal when the thread that started the child ends, so the thread is kept.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := c.cmd.Start()
		started <- err
		if err != nil {
			return
		}
		e.tell(name, output)
		c.err = c.cmd.Wait()
		close(c.exited)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	e.log.Debug("Program started", "program", name, "pid", c.cmd.Process.Pid)
	return c, nil
}

// tell writes what a child prints to the log, until it closes its output.
func (e *privateEngine) tell(name string, output io.Reader) {
	lines := bufio.NewReaderSize(output, maxLine)
	for {
		line, _, err := lines.ReadLine() // a longer line comes in parts
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrClosed) {
				e.log.Debug("Reading a program's output failed", "program", name, "err", err)
			}
			return
		}
		e.log.Debug("Program says", "program", name, "line", strings.ToValidUTF8(string(line), "?"))
	}
}

// end asks the child to end, makes it end after grace, and waits.
func (c *child) end(grace time.Duration) {
	if grace > 0 {
		_ = c.cmd.Process.Signal(syscall.SIGTERM) // gone already is as good
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case <-c.exited:
			return
		case <-timer.C:
		}
	}
	_ = c.cmd.Process.Kill()
	<-c.exited
}
