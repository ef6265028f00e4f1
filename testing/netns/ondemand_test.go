package netns_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/ikegod/ikegod/pkg/ctl"
	"github.com/ikegod/ikegod/testing/netns"
)

// TestOnDemand: the one packet that a connection with auto=ondemand comes up for gets its answer, also if that takes a fallback to TCP. Nobody repeats it.
func TestOnDemand(t *testing.T) {
	for _, tc := range []struct {
		name     string
		more     []string
		blockUDP bool
		carrier  string
	}{
		{"UDP", nil, false, "ESPinUDP"},
		{"plain-ESP", []string{"encapsulation=auto"}, false, "ESP"},
		{"TCP", []string{"enable-tcp=yes"}, false, "ESPinTCP"},
		{"fallback", []string{"enable-tcp=fallback", "retransmit-timeout=2s"}, true, "ESPinTCP"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, w, e := netns.Gateways(t)
			if tc.blockUDP {
				if _, err := e.Block("udp", "meta l4proto udp"); err != nil {
					t.Fatal(err)
				}
			}
			east := start(t, e, config(nil, tc.more...), secrets)
			west := start(t, w, strings.Replace(config(nil, tc.more...), "auto=add", "auto=ondemand", 1), secrets)
			if n := len(sas(t, west)); n != 0 {
				t.Fatalf("%d IKE SAs before anybody has sent anything", n)
			}
			out, err := w.Output("ping", "-c", "1", "-W", "9", "-I", netns.WestInner, netns.EastInner)
			if err != nil {
				here, _ := west.Ikectl("status")
				there, _ := east.Ikectl("status")
				t.Fatalf("%v\n%s\n%s\n%s", err, out, here, there)
			}
			if c := one(t, west).Children; len(c) != 1 || c[0].Carrier != tc.carrier || c[0].Datapath != "userspace" || c[0].OutPackets != 1 || c[0].InPackets != 1 {
				t.Errorf("%+v", c)
			}
		})
	}
}

// TestWhyThisDatapath: the choice is told once at the start, with its reason, and shown by status and doctor.
func TestWhyThisDatapath(t *testing.T) {
	_, w, _ := netns.Gateways(t)
	west := start(t, w, config(nil), secrets)
	var status struct {
		Daemon ctl.Status `json:"daemon"`
	}
	var doctor ctl.Doctor
	for verb, v := range map[string]any{"status": &status, "doctor": &doctor} {
		out, code := west.Ikectl("--json", verb)
		if code != 0 {
			t.Fatalf("%s: %d %s", verb, code, out)
		}
		if err := json.Unmarshal([]byte(out), v); err != nil {
			t.Fatalf("%s: %v", verb, err)
		}
	}
	if !doctor.Running || doctor.Datapath != status.Daemon.Backend || doctor.Why == "" || doctor.Why != status.Daemon.BackendWhy {
		t.Errorf("doctor says %s: %s; status says %s: %s", doctor.Datapath, doctor.Why, status.Daemon.Backend, status.Daemon.BackendWhy)
	}
	var esp ctl.Finding
	for _, f := range doctor.Findings {
		if f.Feature == "ESP" {
			esp = f
		}
	}
	if esp.Outcome == "" || esp.Outcome != "yes" && (doctor.Datapath != "userspace" || !strings.Contains(doctor.Why, esp.Means)) {
		t.Errorf("ESP in this kernel: %+v; the datapath is %s: %s", esp, doctor.Datapath, doctor.Why)
	}
	told := "datapath: " + doctor.Datapath + " (backend=auto): " + doctor.Why
	if n := strings.Count(west.Log(), told); n != 1 {
		t.Errorf("the log says %d times %q:\n%s", n, told, west.Log())
	}
	if n := strings.Count(west.Log(), "kernel "+doctor.Kernel+" can: "); n != 1 {
		t.Errorf("the log says %d times what the kernel can do:\n%s", n, west.Log())
	}
	text, code := west.Ikectl("status")
	if words := strings.Join(strings.Fields(text), " "); code != 0 || !strings.Contains(words, "datapath "+doctor.Datapath+": "+doctor.Why) {
		t.Errorf("%d: %s", code, text)
	}
	if err := west.Stop(); err != nil {
		t.Error(err)
	}
	if out, code := west.Ikectl("doctor"); code != 3 || !strings.Contains(strings.Join(strings.Fields(out), " "), "ikegod doctor") {
		t.Errorf("without a daemon: %d %s", code, out)
	}
}
