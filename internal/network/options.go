package network

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
)

const defaultIfPrefix = "eth"

// driverOptions are the options that each driver takes.
var driverOptions = map[string][]string{
	DriverBridge:  {OptBridgeName, OptICC, OptMasquerade, OptHostBinding, OptMTU, OptIfPrefix},
	DriverMacvlan: {OptParent, OptMacvlanMode, OptMTU, OptIfPrefix},
	DriverIPvlan:  {OptParent, OptIPvlanMode, OptMTU, OptIfPrefix},
	DriverNone:    {},
	DriverHost:    {},
}

// shortOptions are other names of options, which a definition does not keep.
var shortOptions = map[string]string{"icc": OptICC}

// longNames gives short options the names that Docker has for them.
func longNames(options map[string]string) error {
	for short, long := range shortOptions {
		value, ok := options[short]
		if !ok {
			continue
		}
		if _, both := options[long]; both {
			return fmt.Errorf("--opt %s: --opt %s is given too", short, long)
		}
		delete(options, short)
		options[long] = value
	}
	return nil
}

func checkOptions(n *Network) error {
	if n.Driver == DriverBridge {
		if err := longNames(n.Options); err != nil {
			return err
		}
	}
	known, ok := driverOptions[n.Driver]
	if !ok {
		return fmt.Errorf("driver %s: unknown (bridge, macvlan, ipvlan)", n.Driver)
	}
	if (n.Driver == DriverNone || n.Driver == DriverHost) && !predefined(n.Name) {
		return fmt.Errorf("driver %s: only one instance of it is allowed", n.Driver)
	}
	for key, value := range n.Options {
		if !slices.Contains(known, key) {
			return fmt.Errorf("--opt %s: unknown to driver %s", key, n.Driver)
		}
		if err := checkOption(key, value); err != nil {
			return fmt.Errorf("--opt %s=%s: %w", key, value, err)
		}
	}
	if (n.Driver == DriverMacvlan || n.Driver == DriverIPvlan) && n.Options[OptParent] == "" {
		return fmt.Errorf("driver %s: --opt parent=LINK is needed", n.Driver)
	}
	return nil
}

func checkOption(key, value string) error {
	switch key {
	case OptICC, OptMasquerade:
		_, err := strconv.ParseBool(value)
		if err != nil {
			return errors.New("not true or false")
		}
	case OptMTU:
		if n, err := strconv.Atoi(value); err != nil || n < 68 || n > 65535 {
			return errors.New("not a number of bytes from 68 to 65535")
		}
	case OptBridgeName, OptParent:
		return checkIfName(value)
	case OptIfPrefix:
		return checkIfName(value + "0")
	case OptHostBinding:
		return checkBinding(value)
	case OptMacvlanMode:
		if _, ok := macvlanModes[value]; !ok {
			return errors.New("not bridge, private, vepa or passthru")
		}
	case OptIPvlanMode:
		if _, ok := ipvlanModes[value]; !ok {
			return errors.New("not l2, l3 or l3s")
		}
	}
	return nil
}

// checkIfName is the kernel's dev_valid_name.
func checkIfName(s string) error {
	if s == "" || len(s) > 15 || s == "." || s == ".." {
		return errors.New("a link's name has 1 to 15 bytes")
	}
	for _, c := range []byte(s) {
		if c == '/' || c == ':' || c <= ' ' || c == 127 || c == '%' {
			return fmt.Errorf("%q is not allowed in a link's name", c)
		}
	}
	return nil
}

// flag reads a boolean option that is true unless set.
func (n *Network) flag(key string) bool {
	b, err := strconv.ParseBool(cmp.Or(n.Options[key], "true"))
	return err == nil && b
}

// mtu is the option's value, 0 if there is none.
func (n *Network) mtu() int {
	v, _ := strconv.Atoi(n.Options[OptMTU])
	return v
}
