// What the generator is told: modules are named as Node wants them.
export default {
  input: process.env.DESCRIBED,
  output: { path: "generated", module: { extension: ".js" } },
};
