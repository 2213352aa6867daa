package vm

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// bootModules are the kernel modules that the initramfs needs to reach the root folder and the ports. All others are loaded
// from the guest layer when something asks for them.
var bootModules = []string{"virtio_pci", "virtio_console", "9pnet_virtio", "9p", "overlay"}

//go:embed guest/init.sh
var initScript string

//go:embed guest/agent.sh
var agentScript []byte

// buildInitramfs writes a compressed archive with busybox, the boot modules and the init script. The modules are those
// under root/lib/modules, and are inserted in the order that modprobe gives.
func buildInitramfs(ctx context.Context, root, kernel, busybox, target string) error {
	folder, err := os.MkdirTemp(filepath.Dir(target), "initramfs-")
	if err != nil {
		return fmt.Errorf("vm: initramfs: %w", err)
	}
	defer func() { _ = os.RemoveAll(folder) }() // the archive is made; what stays costs room only
	for _, d := range []string{"bin", "modules", "proc", "sys", "dev", "host", "guest", "rw", "new"} {
		if err := os.Mkdir(filepath.Join(folder, d), 0o755); err != nil {
			return fmt.Errorf("vm: initramfs: %w", err)
		}
	}
	if err := copyFile(filepath.Join(folder, "bin/busybox"), busybox, 0o755); err != nil {
		return err
	}
	order, err := insertOrder(ctx, root, kernel)
	if err != nil {
		return err
	}
	var names []string
	for _, path := range order {
		name := filepath.Base(path)
		if err := copyFile(filepath.Join(folder, "modules", name), path, 0o644); err != nil {
			return err
		}
		names = append(names, name)
	}
	script := strings.Replace(initScript, "@MODULES@", strings.Join(names, " "), 1)
	if err := os.WriteFile(filepath.Join(folder, "init"), []byte(script), 0o755); err != nil {
		return fmt.Errorf("vm: initramfs: %w", err)
	}
	pack := exec.CommandContext(ctx, "/bin/sh", "-c",
		`cd "$1" && "$2" find . | "$2" cpio -o -H newc 2>/dev/null | "$2" gzip -1 > "$3"`, "sh", folder, busybox, target)
	if out, err := pack.CombinedOutput(); err != nil {
		return fmt.Errorf("vm: pack initramfs: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// insertOrder gives the paths of the boot modules and of what they depend on, each before what needs it.
func insertOrder(ctx context.Context, root, kernel string) ([]string, error) {
	var order []string
	seen := map[string]bool{}
	for _, module := range bootModules {
		out, err := output(ctx, "modprobe", "--dirname", root, "--set-version", kernel, "--show-depends", module)
		if err != nil {
			return nil, fmt.Errorf("vm: module %s: %w", module, err)
		}
		for line := range strings.Lines(out) {
			verb, path, _ := strings.Cut(strings.TrimSpace(line), " ")
			path, _, _ = strings.Cut(strings.TrimSpace(path), " ")
			if verb == "insmod" && !seen[path] {
				seen[path] = true
				order = append(order, path)
			}
		}
	}
	return order, nil
}

func copyFile(target, source string, mode os.FileMode) error {
	data, err := os.ReadFile(source)
	if err != nil {
		return fmt.Errorf("vm: copy: %w", err)
	}
	if err := os.WriteFile(target, data, mode); err != nil {
		return fmt.Errorf("vm: copy: %w", err)
	}
	return nil
}
