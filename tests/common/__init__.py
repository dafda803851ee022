"""What tests of several rooms share: projects to build, kernels, servers, what the machine must have, markers."""
