// Gives a plugin's function the name by which the host calls it; asc itself takes no name with `:` or `#`.
const interfaces = {
  predict: "predict",
  detect: "detect",
  generate: "design",
  inspect: "verify",
  arrange: "schedule",
  run: "act",
};

export default class {
  afterCompile(module) {
    for (const [name, face] of Object.entries(interfaces)) {
      const entry = module.getExport(name);
      if (!entry) continue;
      const { value } = this.binaryen.getExportInfo(entry);
      module.removeExport(name);
      module.addFunctionExport(value, `forewright:plugin/${face}@1.0.0#${name}`);
    }
  }
}
