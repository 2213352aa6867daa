package radio

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// nmcliWait bounds one order to NetworkManager, in seconds.
const nmcliWait = "60"

// managerDropIn has systemd start the NetworkManager of a tree in place of the guest's. To lay the tree over /usr it needs what
// the unit takes away.
const managerDropIn = `[Service]
CapabilityBoundingSet=~
ProtectSystem=no
ExecStart=
ExecStart=unshare -m sh -c '%s' %s /usr/sbin/NetworkManager --no-daemon
`

// StartNetworkManager starts NetworkManager, the guest's or that of a tree of nigh/lab/vm, on the system's node only, and
// returns when it manages the node's radio. It manages every interface of the guest's own namespace. It ends with the bed, or
// by StopNetworkManager.
func (n *Node) StartNetworkManager(ctx context.Context, tree string) error {
	if !n.system {
		return fmt.Errorf("radio: NetworkManager on %s: only the system's node has one", n.Name)
	}
	if err := n.chooseManager(ctx, tree); err != nil {
		return err
	}
	n.manager = true
	if err := run(ctx, "systemctl", "restart", "NetworkManager.service"); err != nil {
		return fmt.Errorf("radio: %w", err)
	}
	return n.AwaitManaged(ctx)
}

// chooseManager says which NetworkManager systemd starts.
func (n *Node) chooseManager(ctx context.Context, tree string) error {
	const folder = "/run/systemd/system/NetworkManager.service.d"
	if err := os.RemoveAll(folder); err != nil {
		return fmt.Errorf("radio: %w", err)
	}
	if tree != "" {
		from, err := TreeFolder(tree)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return fmt.Errorf("radio: %w", err)
		}
		script := strings.NewReplacer(`"$@"`, `"$$@"`, `$0`, `$$0`).Replace(enterTree)
		if err := os.WriteFile(filepath.Join(folder, "tree.conf"), fmt.Appendf(nil, managerDropIn, script, from), 0o644); err != nil {
			return fmt.Errorf("radio: %w", err)
		}
	}
	if err := run(ctx, "systemctl", "daemon-reload"); err != nil {
		return fmt.Errorf("radio: %w", err)
	}
	return nil
}

// AwaitManaged returns when NetworkManager manages the node's radio and is not connecting it.
func (n *Node) AwaitManaged(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyWait, fmt.Errorf("NetworkManager does not manage %s within %v", n.Ifname, readyWait))
	defer cancel()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		// Of what nmcli prints beside the answer, some is only that it has another version.
		out, err := exec.CommandContext(ctx, "nmcli", "--get-values", "GENERAL.STATE", "device", "show", n.Ifname).Output()
		// 30 is disconnected: managed, and wpa_supplicant has it. 100 is connected.
		if state := strings.TrimSpace(string(out)); err == nil && (strings.HasPrefix(state, "30 ") || strings.HasPrefix(state, "100 ")) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("radio: %w: %s", context.Cause(ctx), strings.TrimSpace(string(out)))
		}
	}
}

// StopNetworkManager ends the guest's NetworkManager and has it forget what it was told.
func (n *Node) StopNetworkManager(ctx context.Context) error {
	if !n.manager {
		return nil
	}
	n.manager = false
	err := errors.Join(
		run(ctx, "systemctl", "stop", "NetworkManager.service"),
		run(ctx, "sh", "-c", "rm -f /etc/NetworkManager/system-connections/* /etc/NetworkManager/conf.d/* /var/lib/NetworkManager/*.state /run/NetworkManager/conf.d/*"),
	)
	if err != nil {
		return fmt.Errorf("radio: %w", err)
	}
	return nil
}

// NMCLI gives NetworkManager an order by nmcli(1) and returns what it printed.
func (n *Node) NMCLI(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "nmcli", append([]string{"--wait", nmcliWait}, args...)...)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("radio: nmcli %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(said.String()))
	}
	return string(out), nil
}
